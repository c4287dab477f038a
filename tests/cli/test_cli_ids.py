"""Short ids, on every database: each keeps UUIDs in its own way."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import insert

from cutwork import schema
from cutwork.cli.ids import resolve, resolve_all, short
from cutwork.errors import InvalidInput, JobNotFound
from cutwork.states import State
from tests.tables import job_values
from tests.world import World

ONE = UUID("01a20913-f62b-76e4-aefa-9bf4a9bb322c")
OTHER = UUID("01a20914-f62b-76e4-aefa-9bf58f9c322d")


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World.at(database_url)
    with made.engine.begin() as tx:
        for job_id in (ONE, OTHER):
            tx.execute(insert(schema.job).values(job_values(State.HELD) | {"id": job_id}))
    yield made
    made.engine.dispose()


def test_the_beginning_the_end_and_the_whole_name_a_job(world: World) -> None:
    with world.engine.connect() as tx:
        for text in ("01a20913", "01a20913-f62b", "322c", "F4A9BB322C", short(ONE), str(ONE)):
            assert resolve(tx, text) == ONE
        assert resolve_all(tx, ["322d", "322c", str(OTHER)]) == [OTHER, ONE]


def test_what_fits_several_or_none_is_refused(world: World) -> None:
    with world.engine.connect() as tx:
        with pytest.raises(InvalidInput, match="write one of 8f9c322d, a9bb322c"):
            resolve(tx, "01a2")
        with pytest.raises(JobNotFound):
            resolve(tx, "f62b")
