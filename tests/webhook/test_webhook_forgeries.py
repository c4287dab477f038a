"""Forged callbacks are counted, and cost the database next to nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sqlalchemy import select, text

from cutwork.schema import event
from cutwork.webhook.app import Webhook
from cutwork.webhook.forgeries import Forgeries
from tests.services.waiting import run_until
from tests.webhook.desk import Desk
from tests.webhook.test_webhook_tokens import call, forgeries


def told(desk: Desk) -> list[int]:
    with desk.engine.connect() as connection:
        found = connection.scalars(select(event.c.detail).where(event.c.kind == "forged"))
        return [int(str(detail)) for detail in found]


def test_all_that_come_together_are_one_line(database_url: str) -> None:
    desk = Desk(database_url)
    counted = Forgeries(desk.engine, every=3600.0)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(1000):
            pool.submit(counted.note)
    assert told(desk) == []
    counted.tell()
    counted.tell()

    assert told(desk) == [1000]
    desk.close()


def test_the_timer_tells_the_last_of_them_too(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    counted = Forgeries(desk.engine, every=0.05)

    for _ in range(3):
        counted.note()
    run_until(lambda: sum(told(desk)) == 3, 20.0, "all three are told")
    counted.note()

    run_until(lambda: sum(told(desk)) == 4, 20.0, "the fourth is told")


def test_a_database_that_is_down_forgets_none(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    counted = Forgeries(desk.engine, every=3600.0)
    with desk.engine.begin() as tx:
        tx.execute(text("ALTER TABLE cutwork_event RENAME TO away"))
    for _ in range(2):
        counted.note()

    counted.tell()
    with desk.engine.begin() as tx:
        tx.execute(text("ALTER TABLE away RENAME TO cutwork_event"))
    counted.note()
    counted.tell()

    assert told(desk) == [3]


def test_a_webhook_counts_whatever_is_not_authentic_and_nothing_else(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    _, token = desk.send()
    webhook = desk.webhook()
    tokens = forgeries(desk)

    for one in (*tokens.values(), token):
        call(webhook, f"/callbacks/{one}")
    call(webhook, "/elsewhere")
    assert told(desk) == []
    webhook._forgeries.tell()

    assert told(desk) == [len(tokens)]


def test_a_webhook_that_ends_tells_the_last_and_leaves_nothing_open(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("postgresql")
    _, token = desk.send()
    webhook = Webhook(replace(desk.settings, callback_secrets=("not the one that signed" * 2,)))
    threads = {*threading.enumerate()}

    call(webhook, f"/callbacks/{token}")
    webhook.close()

    assert told(desk) == [1]
    assert webhook._engine.pool.checkedin() == webhook._engine.pool.checkedout() == 0
    assert {*threading.enumerate()} <= threads
