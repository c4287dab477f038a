"""Looking until a job is over, in threads and in event loops, on every database."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import cutwork
from cutwork import jobs
from cutwork.errors import JobNotFound, StillWorking
from cutwork.states import State
from tests.services.aio import async_engine
from tests.world import World

NOBODY = UUID(int=1)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    yield made
    made.engine.dispose()


def test_wait_gives_the_job_when_it_rests_and_an_error_when_it_does_not(world: World) -> None:
    job_id = world.succeeded()
    assert cutwork.wait(world.engine, job_id, timeout=1).state == State.SUCCEEDED
    with pytest.raises(StillWorking, match="cutwork explain"):
        cutwork.wait(world.engine, world.enqueue(), timeout=0.1)
    for no_time in (0, -1, float("nan")):
        with pytest.raises(StillWorking):
            cutwork.wait(world.engine, world.enqueue(), timeout=no_time)
    with pytest.raises(JobNotFound):
        cutwork.wait(world.engine, NOBODY, timeout=0.1)


def test_wait_async_gives_what_wait_gives(world: World) -> None:
    done, queued = world.succeeded(), world.enqueue()

    async def look() -> cutwork.Job:
        async with async_engine(world.engine.url) as engine:
            with pytest.raises(StillWorking, match=r"still queued after 0\.1 s"):
                await cutwork.wait_async(engine, queued, timeout=0.1)
            with pytest.raises(JobNotFound):
                await cutwork.wait_async(engine, NOBODY)
            with pytest.raises(JobNotFound):
                await cutwork.wait_async(engine, "no id")
            return await cutwork.wait_async(engine, str(done))

    assert asyncio.run(look()) == cutwork.wait(world.engine, done)


def test_many_wait_in_one_loop_without_a_connection_and_see_the_end(world: World) -> None:
    """Twenty wait at a pool of one connection, and the loop is free to end the job."""
    job_id = world.enqueue()

    async def look() -> list[cutwork.Job]:
        async with async_engine(world.engine.url, pool_size=1, max_overflow=0) as engine:
            waiting = [
                asyncio.ensure_future(cutwork.wait_async(engine, job_id, timeout=20))
                for _ in range(20)
            ]
            with pytest.raises(StillWorking):
                await cutwork.wait_async(engine, job_id, timeout=0.2)
            assert not any(one.done() for one in waiting)
            async with engine.begin() as tx:
                await tx.run_sync(jobs.cancel, job_id)
            return await asyncio.gather(*waiting)

    assert [one.state for one in asyncio.run(look())] == [State.CANCELLED] * 20


def test_a_plain_engine_is_looked_at_in_a_thread(world: World) -> None:
    job_id = world.enqueue()

    async def look() -> cutwork.Job:
        waiting = asyncio.ensure_future(cutwork.wait_async(world.engine, job_id, timeout=20))
        with pytest.raises(StillWorking):
            await cutwork.wait_async(world.engine, job_id, timeout=0.1)
        async with async_engine(world.engine.url) as engine, engine.begin() as tx:
            await tx.run_sync(jobs.cancel, job_id)
        return await waiting

    assert asyncio.run(look()).state is State.CANCELLED


def test_whoever_is_cancelled_at_any_moment_leaves_no_connection_behind(world: World) -> None:
    job_id = world.enqueue()

    async def cancel_after(engine: AsyncEngine, steps: int) -> None:
        """Let the loop make so many steps, so that the wait is at another place each time."""
        waiting = asyncio.ensure_future(cutwork.wait_async(engine, job_id))
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    async def cancel_during(engine: AsyncEngine, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cutwork.wait_async(engine, job_id), seconds)

    async def look() -> cutwork.Job:
        async with async_engine(world.engine.url, pool_size=1, max_overflow=0) as engine:
            for steps in range(30):
                await cancel_after(engine, steps)
            for thousandths in range(1, 16):
                await cancel_during(engine, thousandths / 1000)
            async with asyncio.timeout(10), engine.begin() as tx:
                await tx.run_sync(jobs.cancel, job_id)
            return await cutwork.wait_async(engine, job_id)

    assert asyncio.run(look()).state is State.CANCELLED
