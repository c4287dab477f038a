"""Engines of asyncio for the databases of the tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+asyncmy",
}


@asynccontextmanager
async def async_engine(url: URL, **options: Any) -> AsyncIterator[AsyncEngine]:
    """An app's engine for this database, as plain as apps have them."""
    made = create_async_engine(url.set(drivername=DRIVERS[url.get_backend_name()]), **options)
    try:
        yield made
    finally:
        await made.dispose()
