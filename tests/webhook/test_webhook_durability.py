"""S8 and L6: 200 is a promise, a database that is away is 503, and its return needs no restart."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.services.private import PrivateServer
from tests.services.waiting import run_until
from tests.webhook.desk import DONE, Desk
from tests.webhook.servers import SERVERS, Served


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "sqlite") for name in SERVERS), ("granian", "postgresql")]
)
def test_what_was_answered_with_200_survives_a_kill(
    make_desk: Callable[..., Desk], serve: Callable[..., Served], name: str, kind: str
) -> None:
    desk = make_desk(kind)
    served = serve(name, desk)
    job_id, token = desk.send()

    answer = served.post(token, DONE)
    served.process.kill()

    assert answer.status == 200
    assert desk.job(job_id).state == "storing"
    assert desk.attempt(job_id).report["image"] == DONE["image"]


def test_a_database_that_is_away_is_503_until_it_is_back(
    make_desk: Callable[..., Desk],
    serve: Callable[..., Served],
    private_postgresql: PrivateServer,
) -> None:
    desk = make_desk(private_postgresql.url)
    served = serve("granian", desk)
    (first, first_token), (second, token) = desk.send(), desk.send()
    assert served.post(first_token, DONE).status == 200

    private_postgresql.stop()
    away = [served.post(token, DONE) for _ in range(2)]
    assert served.is_well()
    private_postgresql.start()
    back = served.post(token, DONE)

    assert [answer.status for answer in away] == [503, 503]
    assert all(answer.headers["retry-after"] == "5" for answer in away)
    assert max(answer.seconds for answer in away) < 5
    assert back.status == 200
    assert {desk.job(first).state, desk.job(second).state} == {"storing"}


def test_a_database_that_somebody_keeps_locked_is_503_in_time(
    make_desk: Callable[..., Desk], serve: Callable[..., Served]
) -> None:
    desk = make_desk()
    served = serve("granian", desk)
    _, token = desk.send()
    with desk.engine.connect() as writer:
        writer.execute(text("SELECT 1"))  # BEGIN IMMEDIATE
        answer = served.post(token, DONE, seconds=20.0)
        at_once = served.post(token, DONE)
        assert served.is_well()
        writer.rollback()

    assert (answer.status, at_once.status) == (503, 503)
    assert answer.headers["retry-after"] == "5"
    assert answer.seconds < 8
    assert at_once.seconds < 1
    run_until(lambda: served.post(token, DONE).status == 200, 10.0, "callbacks are taken again")
