"""Who is named is told, by the roles as they run; who does not listen delays no job."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from kombu import Connection
from sqlalchemy import select, update
from standardwebhooks import Webhook

from cutwork import jobs, schema
from cutwork.clock import after
from cutwork.notices import Notice, Told
from cutwork.settings import Settings
from cutwork.states import State
from cutwork.worker import notifying
from tests.house import House
from tests.services.processes import Processes
from tests.services.rabbitmq import PrivateRabbitMQ
from tests.services.waiting import run_until
from tests.subscriber import Subscriber
from tests.world import World

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CHANGES = {
    "notify_secrets": (SECRET,), "notify_networks": ("127.0.0.0/8",), "notify_timeout": 2.0,
    "concurrency": 4,
}  # fmt: skip
# The app's own Celery tasks, as an app would write them.
APP = """
from pathlib import Path
from celery import Celery

app = Celery("shop", broker={broker!r})
app.conf.broker_transport_options = {options!r}
app.conf.worker_enable_remote_control = False


@app.task(name="shop.cut_done")
def cut_done(job_id: str) -> None:
    with Path({told!r}).open("a") as file:
        file.write(job_id + "\\n")
"""


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    with Subscriber() as made:
        yield made


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    with House(database_url, tmp_path, changes=CHANGES) as made:
        yield made


def hurry(house: House) -> None:
    """Let whatever waits for its next try be due now."""
    with house.engine.begin() as tx:
        open_ = (schema.notice.c.due_at.is_not(None), schema.notice.c.lease.is_(None))
        tx.execute(update(schema.notice).where(*open_).values(due_at=after(-1)))
        tx.execute(update(schema.subscriber).values(closed_until=after(-1)))


def test_a_url_is_told_when_the_cut_out_is_stored(house: House, subscriber: Subscriber) -> None:
    job_id = house.enqueue(notify=subscriber.url, meta={"order": 7})
    house.until(job_id, State.SUCCEEDED)
    house.run(lambda: bool(subscriber.heard), 10, "nobody was told")
    (heard,) = subscriber.heard
    told = Webhook(SECRET).verify(heard.body, heard.headers)
    assert told["type"] == "job.succeeded"
    assert told["data"]["id"] == str(job_id)
    assert told["data"]["image"] == house.job(job_id).image
    assert told["data"]["meta"] == {"order": 7}


def test_what_was_not_heard_is_told_again(house: House, subscriber: Subscriber) -> None:
    subscriber.answers = [(500, {}), (503, {}), (200, {})]
    job_id = house.enqueue(notify=subscriber.url)
    house.until(job_id, State.SUCCEEDED)

    def third() -> bool:
        hurry(house)
        return len(subscriber.heard) == 3

    house.run(third, 15, "it was not told again")
    house.step()
    assert len({one.headers["webhook-id"] for one in subscriber.heard}) == 1
    with house.engine.connect() as tx:
        row = tx.execute(select(schema.notice)).one()
    assert (row.tries, row.due_at) == (3, None)
    assert row.told_at is not None


def test_a_dead_subscriber_delays_no_job(house: House, subscriber: Subscriber) -> None:
    dead = [house.enqueue(notify="http://127.0.0.1:9/dead") for _ in range(6)]
    house.settle(*dead, seconds=30)
    others = [house.enqueue(notify=subscriber.url) for _ in range(3)]
    done = house.settle(*others, seconds=30)
    assert {one.state for one in done} == {State.SUCCEEDED}
    house.run(lambda: len(subscriber.heard) == 3, 20, "the others were not told")


def test_nobody_is_told_who_cannot_be_and_the_job_is_over_all_the_same(house: House) -> None:
    job_ids = {house.enqueue(): target for target in ("http://[shop/", "no task;")}
    with house.engine.begin() as tx:
        for job_id, target in job_ids.items():
            one = schema.job.c.id == job_id
            tx.execute(update(schema.job).where(one).values(notify=target))
    done = house.settle(*job_ids, seconds=30)
    assert {job.state for job in done} == {State.SUCCEEDED}

    def settled() -> bool:
        with house.engine.connect() as tx:
            open_ = select(schema.notice).where(schema.notice.c.due_at.is_not(None))
            return not tx.execute(open_).all()

    house.run(settled, 10, "it is still to be told")
    with house.engine.connect() as tx:
        faults = tx.execute(select(schema.notice.c.error)).scalars().all()
    assert len(faults) == 2
    assert all(fault.startswith("notify must ") for fault in faults)


def of_a_task() -> Notice:
    now = datetime.now(UTC)
    return Notice(uuid4(), uuid4(), "succeeded", "shop.cut_done", "", 1, now, now)


def test_a_queue_that_the_app_declared_in_its_own_way_is_used_as_it_is(
    empty_broker: Callable[[str], str], tmp_path: Path
) -> None:
    url = empty_broker("rabbitmq")
    settings = Settings(home=tmp_path, notify_broker_url=url)
    with Connection(url) as connection:
        channel = connection.channel()
        shape = {"x-max-priority": 10}
        channel.queue_declare("celery", durable=True, auto_delete=False, arguments=shape)
        for one in (of_a_task(), of_a_task()):
            assert notifying._send(settings, one) == Told()
            message = channel.basic_get("celery", no_ack=True)
            assert str(one.job_id) in message.body


def test_a_broker_that_says_nothing_is_not_waited_for_longer_than_a_lease(
    private_rabbitmq: PrivateRabbitMQ, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, notify_broker_url=private_rabbitmq.url)
    assert notifying._send(settings, of_a_task()) == Told()
    private_rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    alarmed = lambda: "memory" in private_rabbitmq.control("eval", "rabbit_alarm:get_alarms().")  # noqa: E731
    run_until(alarmed, 30, "it is short of memory")

    try:
        started = time.monotonic()
        told = notifying._send(settings, of_a_task())
        took = time.monotonic() - started
    finally:
        private_rabbitmq.control("set_vm_memory_high_watermark", "0.4")

    assert "the broker did not take it" in told.fault
    assert told.silent
    assert took < settings.notify_timeout + settings.lease_margin


@pytest.mark.no_cover
def test_an_apps_own_celery_task_gets_the_jobs_id(
    broker_url: str, empty_database: Callable[[str], str], tmp_path: Path, processes: Processes
) -> None:
    world = World.at(empty_database("sqlite"))
    told, folder = tmp_path / "told", tmp_path / "home" / "broker"
    files = broker_url.startswith("filesystem")
    options = {
        "data_folder_in": str(folder / "messages"), "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
    }  # fmt: skip
    code = APP.format(broker=broker_url, options=options if files else {}, told=str(told))
    (tmp_path / "shop.py").write_text(code)
    env = {
        "CUTWORK_HOME": str(tmp_path / "home"),
        "CUTWORK_DATABASE_URL": world.engine.url.render_as_string(hide_password=False),
        "CUTWORK_BROKER_URL": broker_url,
        "CUTWORK_API_TOKENS": "unused-key",
        "CUTWORK_API_URL": "http://127.0.0.1:9",
    }
    ours = [
        processes.start("cutwork", "worker", env=env),
        processes.start("cutwork", "reconciler", env=env),
    ]
    later = {"image_url": "http://example.com/a.jpg", "notify": "shop.cut_done"}
    with world.engine.begin() as tx:
        job_id: UUID = jobs.enqueue(tx, **later).id
        jobs.cancel(tx, job_id)
    run_until(lambda: "told" in ours[0].log, 30, "no task was sent")
    theirs = processes.start(
        sys.executable, "-m", "celery", "--workdir", str(tmp_path), "-A", "shop", "worker",
        "--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=INFO", env={},
    )  # fmt: skip
    run_until(lambda: told.exists() and str(job_id) in told.read_text(), 30, theirs.log)
    assert told.read_text().split() == [str(job_id)]
    with world.engine.connect() as tx:
        row = tx.execute(select(schema.notice)).one()
    assert row.told_at is not None
    assert json.dumps(row.error) == "null"
    world.engine.dispose()
