"""The disk is full: nothing is lost or paid for twice, and freeing some space is enough."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cutwork.errors import StorageError
from cutwork.states import State
from tests.recovery.place import PATIENCE, Place, deployed, stopped
from tests.recovery.room import small_room
from tests.services.processes import Processes
from tests.services.waiting import run_until

pytestmark = [pytest.mark.long, pytest.mark.no_cover]


def test_a_storage_without_room_keeps_results_waiting_and_refuses_new_pictures(
    empty_database: Callable[[str], str],
    empty_broker: Callable[[str], str],
    processes: Processes,
    tmp_path: Path,
) -> None:
    urls = (empty_database("postgresql"), empty_broker("redis"))
    with (
        small_room(tmp_path / "room", processes) as room,
        deployed(processes, tmp_path, *urls, storage_url=room.folder.as_uri()) as place,
    ):
        place.open()
        place.enqueue(2, image_file=noise())
        place.finish()
        with stopped(place.role("reconciler")):
            waiting = place.enqueue(3, image_file=noise())
            room.fill()
        run_until(
            lambda: all(place.job(one).error for one in waiting), PATIENCE, "nobody met the limit"
        )
        assert {place.job(one).state for one in waiting} == {State.STORING}
        with room.inside(), pytest.raises(StorageError, match=r"free some space|ulimit"):
            place.enqueue(image_file=noise())
        room.free()

        assert place.count(*State) == len(place.ids)
        place.enqueue(2)
        place.finish()
        assert place.charges() == len(place.ids)


def test_a_sqlite_without_room_goes_on_when_there_is_some(
    empty_broker: Callable[[str], str], processes: Processes, tmp_path: Path
) -> None:
    with small_room(tmp_path / "room", processes) as room:
        url = f"sqlite:///{room.folder / 'cutwork.db'}"
        with deployed(processes, tmp_path, url, empty_broker("redis")) as place:
            place.open()
            place.enqueue(2)
            place.finish()
            clock = place.role("reconciler")
            with stopped(clock):
                place.enqueue(6)
                room.fill()
                with room.inside():
                    use_up_what_is_left(place)
            clock.wait_for_log("reconciler failed", PATIENCE)
            room.free()

            place.enqueue(2)
            place.finish()
            assert place.charges() == len(place.ids)


def noise() -> bytes:
    """A picture that cannot be made small."""
    out = BytesIO()
    Image.effect_noise((400, 400), 200).convert("RGB").save(out, "PNG")
    return out.getvalue()


def use_up_what_is_left(place: Place) -> None:
    """SQLite's log has room of its own, that it was given earlier."""
    statements = ["CREATE TABLE IF NOT EXISTS ballast (x BLOB)"]
    statements += [f"INSERT INTO ballast VALUES (zeroblob({size}))" for size in (100_000, 1)]
    for statement in statements:
        refused = False
        while not refused:
            try:
                with place.engine.begin() as tx:
                    tx.execute(text(statement))
                refused = statement.startswith("CREATE")
            except OperationalError:
                refused = True
