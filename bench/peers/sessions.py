"""The step of peers that are asyncio: one POST to the stub, with one aiohttp session for all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from .posting import address, form


class Posts:
    """Posts over one session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["Posts"]:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": "Bearer a-key-of-the-bench"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield cls(session)

    async def post(self, number: int) -> str:
        """Create a task; its id."""
        with aiohttp.MultipartWriter("form-data") as parts:
            for name, value in form(number).items():
                parts.append(value).set_content_disposition("form-data", name=name)
        async with self._session.post(address(), data=parts) as reply:
            reply.raise_for_status()
            return str((await reply.json())["data"]["task_id"])
