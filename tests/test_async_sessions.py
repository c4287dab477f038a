"""The whole API under ``run_sync``, with the drivers that apps have for asyncio."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import cutwork
from cutwork.errors import InvalidInput, JobNotFound, KeyConflict
from cutwork.settings import Settings
from cutwork.states import State
from tests.house import picture
from tests.services.aio import async_engine
from tests.world import SETTINGS, World

URL = "http://example.com/a.jpg"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def stored(tmp_path: Path) -> Settings:
    """Settings whose storage is a folder of the test's own."""
    return replace(SETTINGS, storage_url=(tmp_path / "files").as_uri())


def test_every_function_runs_in_an_async_sessions_own_transaction(
    world: World, stored: Settings
) -> None:
    async def use() -> list[UUID]:
        async with async_engine(world.engine.url) as engine:
            async with AsyncSession(engine) as session, session.begin():
                one = await session.run_sync(cutwork.enqueue, image_url=URL, idempotency_key="k")
                same = await session.run_sync(cutwork.enqueue, image_url=URL, idempotency_key="k")
                assert same.id == one.id
                with pytest.raises(KeyConflict):
                    await session.run_sync(
                        cutwork.enqueue, image_url=URL, type="person", idempotency_key="k"
                    )
                own = await session.run_sync(
                    cutwork.enqueue, image_file=picture(), meta={"é": [1]}, settings=stored
                )
                asked = [cutwork.Segmentation(image_url=f"{URL}?{number}") for number in range(3)]
                many = await session.run_sync(cutwork.enqueue_many, asked, owner="shop")
                assert (await session.run_sync(cutwork.get, own.id)).meta == {"é": [1]}
            async with AsyncSession(engine) as session:
                await session.run_sync(cutwork.enqueue, image_url=URL, owner="undone")
                await session.rollback()
            async with engine.begin() as connection:
                await connection.run_sync(cutwork.cancel, one.id)
                await connection.run_sync(cutwork.cancel, own.id)
                assert await connection.run_sync(cutwork.retry, own.id) is State.QUEUED
                with pytest.raises(JobNotFound):
                    await connection.run_sync(cutwork.get, UUID(int=1))
            return [one.id, own.id, *many]

    first, *others = asyncio.run(use())

    assert world.count() == 5
    assert world.state(first) is State.CANCELLED
    assert sorted(world.release()) == sorted(others)


def test_an_async_session_that_is_passed_itself_is_explained(world: World) -> None:
    async def enqueue() -> None:
        async with async_engine(world.engine.url) as engine, AsyncSession(engine) as session:
            cutwork.enqueue(session, image_url=URL)  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="run_sync"):
        asyncio.run(enqueue())


class FileThatWaits:
    """A picture that comes only when the event loop has let it."""

    def __init__(self) -> None:
        self.asked, self.may_come = Event(), Event()
        self._rest = picture()

    def read(self, size: int = -1) -> bytes:
        self.asked.set()
        assert self.may_come.wait(20), "the event loop stood still"
        given = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(given) :]
        return given


def test_the_event_loop_goes_on_while_a_picture_is_read_and_stored(
    world: World, stored: Settings
) -> None:
    slow: Any = FileThatWaits()

    async def enqueue() -> UUID:
        async with (
            async_engine(world.engine.url) as engine,
            AsyncSession(engine) as session,
            session.begin(),
        ):
            entering = asyncio.ensure_future(
                session.run_sync(cutwork.enqueue, image_file=slow, settings=stored)
            )
            assert await asyncio.to_thread(slow.asked.wait, 10)
            slow.may_come.set()
            return (await entering).id

    job = world.job(asyncio.run(enqueue()))

    assert Path(job.request["image_file"]["uri"].removeprefix("file://")).exists()
