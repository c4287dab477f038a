"""T4: a private PostgreSQL and a private broker, both restarted, and everything else in trouble."""

import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from cutwork import callbacks, jobs
from cutwork.drill.site import refuse_paid_api
from cutwork.drill.soak import Orders, Soak
from cutwork.drill.verdict import SITUATIONS
from cutwork.errors import InvalidSetting
from cutwork.settings import Settings
from tests.house import picture
from tests.services.private import PrivateServer
from tests.services.waiting import run_until
from tests.tables import tables_at

# What is found once is found: it is not run again in the hope that it goes away.
pytestmark = [pytest.mark.long, pytest.mark.flaky(reruns=0)]

JOBS, SECONDS = 300, 80.0


def knock(url: str) -> int:
    """What the webhook answers to a callback; 0 while it does not listen."""
    try:
        return requests.post(url, data=b"{}", timeout=10).status_code
    except requests.RequestException:
        return 0


@pytest.mark.timeout(900)
def test_a_deployment_under_fire_breaks_no_promise(
    private_postgresql: PrivateServer, private_redis: PrivateServer, tmp_path: Path
) -> None:
    environ = {
        "CUTWORK_DATABASE_URL": private_postgresql.url,
        "CUTWORK_BROKER_URL": private_redis.url,
        "CUTWORK_STORAGE_URL": (tmp_path / "files").as_uri(),
    }

    def database_away() -> None:
        """While a callback comes: it is not answered 2xx."""
        soak.players[0].kill()  # it may be one that dies of the next callback
        soak.players[0].start()
        url = callbacks.url(soak.settings, uuid4(), 1, now=time.time())
        assert url is not None
        run_until(lambda: knock(url) == 410, 30, "the webhook does not serve")
        private_postgresql.stop()
        try:
            run_until(lambda: knock(url) == 503, 30, "the webhook does not say 503")
        finally:
            private_postgresql.start()

    troubles = {"database away": database_away, "broker restarted": private_redis.restart}
    soak = Soak(Orders(JOBS, SECONDS, seed=4), environ, print, troubles)

    shown = soak.run()

    assert shown.violations == ()
    assert sum(shown.jobs.values()) == JOBS
    assert shown.second_charges == shown.explained
    never = {name for name in SITUATIONS if not shown.sometimes[name]}
    assert not never, f"never happened: {never} in {shown}"


@pytest.mark.parametrize("name", ["CUTWORK_API_URL", "CUTWORK_API_URL_FILE"])
def test_a_drill_is_refused_where_an_api_is_named(name: str) -> None:
    with pytest.raises(InvalidSetting, match="never talks to a provider that is paid"):
        refuse_paid_api({name: "https://api.example"})


def test_a_drill_is_refused_where_others_have_unfinished_jobs(
    empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = empty_database("sqlite")
    files = (tmp_path / "files").as_uri()
    with tables_at(url) as engine, engine.begin() as tx:
        jobs.enqueue(tx, image_file=picture(), owner="shop", settings=Settings(storage_url=files))
    with pytest.raises(InvalidSetting, match="1 unfinished jobs that are not the drill's"):
        Soak(Orders(1, 1.0), {"CUTWORK_DATABASE_URL": url}).run()
