"""The rate, measured in every window, and what opens and closes a key's gate."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, insert, select, update

from cutwork import database, gate, schema
from cutwork.clock import after, now
from cutwork.gate import Gate
from cutwork.settings import Settings
from tests.conftest import DATABASES
from tests.services.registry import Services
from tests.tables import tables_at, wipe

KEY = "0a1b2c3d"
JOB, OTHER = UUID(int=1), UUID(int=2)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=DATABASES)
def tables(request: pytest.FixtureRequest, services: Services) -> Iterator[Engine]:
    with tables_at(services.empty(request.param)) as engine:
        yield engine


@pytest.fixture
def engine(tables: Engine) -> Engine:
    """Empty tables but for the gate of one key."""
    wipe(tables)
    with tables.begin() as tx:
        gate.ensure(tx, [KEY])
    return tables


@pytest.fixture
def tx(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def current(tx: Connection) -> Gate:
    (found,) = gate.read(tx)
    return found


def throttles(tx: Connection) -> int:
    return int(tx.execute(select(schema.gate.c.throttles)).scalar_one())


def events(tx: Connection) -> list[str]:
    return list(tx.execute(select(schema.event.c.kind).order_by(schema.event.c.id)).scalars())


def opened_ago(tx: Connection, seconds: float) -> None:
    """As if so many seconds had passed since the gate opened again by itself."""
    tx.execute(update(schema.gate).values(closed_until=after(-seconds)))


def worst_window(takes: list[tuple[datetime, int]], rate: float) -> float:
    """The most by which any window from one take to another exceeds rate · t + burst."""
    over = [
        sum(permits for _, permits in takes[first : last + 1])
        - (rate * (takes[last][0] - takes[first][0]).total_seconds() + gate.burst(rate))
        for first in range(len(takes))
        for last in range(first, len(takes))
    ]
    return max(over, default=0.0)


# The arithmetic, in virtual time


@pytest.fixture(scope="module")
def virtual() -> Iterator[Engine]:
    """A gate in memory, for as many examples as it takes."""
    engine = create_engine("sqlite://")
    schema.gate.create(engine)
    yield engine
    engine.dispose()


def begin(tx: Connection) -> None:
    tx.execute(schema.gate.delete())
    clean = {"paused": False, "throttles": 0, "trips": 0, "good": 0, "bad": 0}
    tx.execute(insert(schema.gate).values(key_id=KEY, free_at=START, **clean))


def at(tx: Connection, moment: datetime) -> Gate:
    free_at = tx.execute(select(schema.gate.c.free_at)).scalar_one()
    return Gate(KEY, moment, free_at, False, None, None)


rates = st.sampled_from([0.01, 0.3, 1.0, 2.0, 3.0, 7.5, 40.0, 1000.0])
shares = st.sampled_from([0.1, 0.5, 1.0])
pauses = st.floats(0, 3) | st.sampled_from([0.0, 1e-6, 0.5, 1 / 3, 3600.0])


@settings(deadline=None)
@given(rates, st.lists(st.tuples(pauses, st.integers(1, 50), shares), max_size=30))
@example(5.0, [(0.0, 1, 1.0), (0.13, 1, 0.1)])
def test_no_window_ever_holds_more_than_the_rate_allows(
    virtual: Engine, rate: float, wishes: list[tuple[float, int, float]]
) -> None:
    moment, takes = START, list[tuple[datetime, int]]()
    with virtual.connect() as tx, tx.begin():
        begin(tx)
        for pause, wanted, share in wishes:
            moment += timedelta(seconds=pause)
            found = at(tx, moment)
            permits = min(wanted, found.permits(rate, share))
            if permits:
                gate.spend(tx, found, permits, rate * share)
                takes.append((moment, permits))

    # The column counts microseconds, so each take may round half of one away.
    assert worst_window(takes, rate) <= 1e-6 * rate * (len(takes) + 1)


@settings(deadline=None)
@given(rates)
def test_whoever_takes_all_there_is_gets_the_whole_rate(virtual: Engine, rate: float) -> None:
    moment, given_out = START, 0
    with virtual.connect() as tx, tx.begin():
        begin(tx)
        for _ in range(40):
            found = at(tx, moment)
            permits = found.permits(rate)
            gate.spend(tx, found, permits, rate)
            given_out += permits
            wait = at(tx, moment).opens_in(rate)
            assert wait is not None
            moment += timedelta(seconds=wait, microseconds=1)

    fair = rate * (moment - START).total_seconds() + gate.burst(rate)
    assert fair - 1.26 <= given_out <= fair + 0.01


@settings(deadline=None)
@given(rates, st.integers(1, 300), st.floats(0, 10))
def test_a_gate_opens_when_it_said_and_not_before(
    virtual: Engine, rate: float, permits: int, later: float
) -> None:
    with virtual.connect() as tx, tx.begin():
        begin(tx)
        gate.spend(tx, at(tx, START), permits, rate)
        moment = START + timedelta(seconds=later)
        wait = at(tx, moment).opens_in(rate)
        assert wait is not None
        opening = moment + timedelta(seconds=wait)

        assert at(tx, opening + timedelta(microseconds=1)).permits(rate) >= 1
        if wait > 1e-5:
            assert at(tx, opening - timedelta(microseconds=5)).permits(rate) == 0


@pytest.mark.parametrize(
    ("rate", "permits"), [(0.01, 1), (1, 1), (2, 1), (8, 2), (40, 10), (1000, 250)]
)
def test_a_burst_is_a_quarter_of_a_second_and_more_than_one(rate: float, permits: int) -> None:
    assert gate.burst(rate) == max(1.25, permits)
    assert Gate(KEY, START, START - timedelta(days=9), False, None, None).permits(rate) == permits


def test_a_closed_gate_gives_nothing_and_says_for_how_long() -> None:
    then = START + timedelta(seconds=7)

    assert Gate(KEY, START, START, True, None, None).permits(2) == 0
    assert Gate(KEY, START, START, True, then, None).opens_in(2) is None
    assert Gate(KEY, START, START, False, then, None).permits(2) == 0
    assert Gate(KEY, START, START, False, then, None).opens_in(2) == 7
    assert Gate(KEY, then, START, False, then, None).permits(2) == 1
    assert Gate(KEY, then, START, False, then, None).opens_in(2) == 0


# The rows


def test_each_key_gets_one_gate_that_is_open(tx: Connection) -> None:
    gate.ensure(tx, [KEY, "ffffffff"])
    gate.ensure(tx, ["ffffffff"])

    assert [(one.key_id, one.open) for one in gate.read(tx)] == [(KEY, True), ("ffffffff", True)]
    assert [one.key_id for one in gate.lock(tx, ["ffffffff", "unknown"])] == ["ffffffff"]


def test_several_processes_may_make_the_gates_at_once(engine: Engine) -> None:
    wipe(engine)
    together = threading.Barrier(4)
    keys = [f"{number:08x}" for number in range(5)]

    def ensure() -> None:
        together.wait(10)
        database.transact(engine, gate.ensure, keys)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ensure) for _ in range(4)]:
            done.result()

    with engine.begin() as tx:
        assert [one.key_id for one in gate.read(tx)] == keys


def test_a_spent_permit_is_seen_by_the_next(tx: Connection) -> None:
    gate.spend(tx, current(tx), 1, 0.5)

    found = current(tx)
    assert found.permits(0.5) == 0
    wait = found.opens_in(0.5)
    assert wait is not None
    assert 1.0 < wait <= 1.5


def test_a_gate_that_somebody_holds_is_left_to_him(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":  # there the write lock comes with the transaction
        assert "FOR UPDATE" not in str(select(schema.gate).with_for_update().compile(engine))
        return
    with engine.begin() as first, engine.begin() as second:
        assert len(gate.lock(first, [KEY])) == 1
        assert gate.lock(second, [KEY]) == []


def test_processes_that_take_at_once_stay_within_the_rate_together(engine: Engine) -> None:
    rate, enough = 200.0, 130
    takes: list[tuple[datetime, int]] = []

    def take(tx: Connection) -> tuple[datetime, int] | None:
        for found in gate.lock(tx, [KEY]):
            if permits := min(7, found.permits(rate)):
                gate.spend(tx, found, permits, rate)
                return found.at, permits
        return None

    def work() -> None:
        mine = database.engine(engine.url.render_as_string(hide_password=False))
        while sum(permits for _, permits in takes) < enough:
            if taken := database.transact(mine, take):
                takes.append(taken)
        mine.dispose()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(30)

    takes.sort()
    assert worst_window(takes, rate) <= 0.01
    assert len(takes) > 10


# What closes and opens it


def test_a_429_closes_the_gate_for_a_second(tx: Connection) -> None:
    assert gate.throttle(tx, KEY, None) == 1.0

    found = current(tx)
    assert not found.open
    assert found.permits(1000) == 0
    assert 0.5 < (found.opens_in(2) or 0) <= 1.0
    assert found.reason == "the provider answered 429, closed for 1 s"
    assert events(tx) == ["throttled"]


def test_429s_in_a_row_close_it_longer_up_to_a_minute(tx: Connection) -> None:
    closed = []
    for _ in range(9):
        closed.append(gate.throttle(tx, KEY, None))
        opened_ago(tx, 1)

    assert closed == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert throttles(tx) == 7


def test_each_answer_between_429s_makes_the_next_pause_shorter(tx: Connection) -> None:
    for _ in range(9):
        gate.throttle(tx, KEY, None)
        opened_ago(tx, 1)
    assert current(tx).watched
    for _ in range(4):
        gate.answered(tx, KEY, JOB, CARE)

    assert gate.throttle(tx, KEY, None) == 8.0
    opened_ago(tx, 1)
    for _ in range(9):
        gate.answered(tx, KEY, JOB, CARE)
    assert not current(tx).watched
    assert gate.throttle(tx, KEY, None) == 1.0


def test_an_answer_that_comes_while_the_gate_is_closed_is_of_the_time_before(
    tx: Connection,
) -> None:
    gate.throttle(tx, KEY, None)
    gate.answered(tx, KEY, JOB, CARE)
    opened_ago(tx, 1)

    assert gate.throttle(tx, KEY, None) == 2.0


def test_after_a_quiet_minute_the_back_off_begins_anew(tx: Connection) -> None:
    gate.throttle(tx, KEY, None)
    opened_ago(tx, 1)
    assert gate.throttle(tx, KEY, None) == 2.0
    opened_ago(tx, 61)

    assert gate.throttle(tx, KEY, None) == 1.0
    assert throttles(tx) == 1


@pytest.mark.parametrize("retry_after", [None, 3.0])
def test_429s_that_were_on_their_way_together_count_once(
    tx: Connection, retry_after: float | None
) -> None:
    waits = [gate.throttle(tx, KEY, retry_after) for _ in range(10)]

    assert waits == pytest.approx([retry_after or 1.0] * 10, abs=0.5)
    assert throttles(tx) == 1
    assert events(tx) == ["throttled"]


def test_a_longer_retry_after_extends_and_a_shorter_one_does_not_shorten(tx: Connection) -> None:
    gate.throttle(tx, KEY, 10.0)
    assert gate.throttle(tx, KEY, 30.0) == 30.0
    assert gate.throttle(tx, KEY, 5.0) == pytest.approx(30.0, abs=1)

    assert throttles(tx) == 1
    assert current(tx).opens_in(2) == pytest.approx(30.0, abs=1)


@pytest.mark.parametrize(("retry_after", "seconds"), [(7.0, 7.0), (0.0, 1.0), (999_999.0, 3600.0)])
def test_a_retry_after_is_honoured_from_a_second_to_an_hour(
    tx: Connection, retry_after: float, seconds: float
) -> None:
    assert gate.throttle(tx, KEY, retry_after) == seconds
    closed_until, clock = tx.execute(select(schema.gate.c.closed_until, now())).one()
    assert (closed_until - clock).total_seconds() == pytest.approx(seconds, abs=0.2)


def test_a_key_without_a_gate_is_slowed_down_all_the_same(tx: Connection) -> None:
    assert gate.throttle(tx, "unknown", None) == 1.0
    assert gate.throttle(tx, "unknown", 9.0) == 9.0
    assert not gate.resume(tx, "unknown")
    assert not gate.pause(tx, "unknown")
    gate.refuse(tx, "unknown", JOB, "no such key")
    assert events(tx) == []


def test_a_refused_key_is_stopped_once_with_its_reason(tx: Connection) -> None:
    gate.refuse(tx, KEY, JOB, "out of credit " + "x" * 500)
    gate.refuse(tx, KEY, JOB, "again")

    found = current(tx)
    assert (found.condition, found.trips, found.paused) == ("tripped", 1, False)
    assert found.opens_in(2) == pytest.approx(60, abs=1)
    assert (found.reason or "").startswith("the provider refused the key: out of credit xxx")
    assert events(tx) == ["refused"]


def test_an_operator_pauses_and_resumes_once_each(tx: Connection) -> None:
    assert [gate.pause(tx, KEY), gate.pause(tx, KEY, "again")] == [True, False]
    assert current(tx).reason == "paused by an operator"
    assert [gate.resume(tx, KEY), gate.resume(tx, KEY)] == [True, False]

    assert current(tx).open
    assert events(tx) == ["paused", "resumed"]


def test_resuming_forgets_whatever_closed_the_gate(tx: Connection) -> None:
    gate.throttle(tx, KEY, 100.0)
    gate.pause(tx, KEY)

    assert gate.resume(tx, KEY)

    found = current(tx)
    assert (found.paused, found.closed_until, found.reason) == (False, None, None)
    assert gate.throttle(tx, KEY, None) == 1.0


def test_a_pause_survives_what_is_still_on_its_way(tx: Connection) -> None:
    gate.pause(tx, KEY)
    gate.throttle(tx, KEY, 0.0)
    gate.spend(tx, current(tx), 3, 2.0)

    assert current(tx).paused


# The breaker


CARE = Settings(breaker_failures=3, breaker_share=0.5, breaker_pause=30.0, breaker_longest=100.0)


def fail(tx: Connection, times: int = 1, job: UUID = JOB) -> None:
    for _ in range(times):
        gate.failed(tx, KEY, job, "HTTP 502: bad gateway", CARE)


def answer(tx: Connection, times: int = 1, job: UUID = JOB) -> None:
    for _ in range(times):
        gate.answered(tx, KEY, job, CARE)


def probing(tx: Connection) -> None:
    """A stopped key whose pause is over, and whose probe is on its way."""
    fail(tx, 3)
    opened_ago(tx, 1)
    gate.send_probe(tx, current(tx), JOB, 60.0)


def test_too_many_failures_stop_a_key_and_say_why(tx: Connection) -> None:
    fail(tx, 2)
    assert (current(tx).condition, current(tx).watched) == ("open", True)
    fail(tx)

    found = current(tx)
    assert (found.condition, found.permits(1000.0)) == ("tripped", 0)
    assert found.reason == "3 of 3 requests failed, the last: HTTP 502: bad gateway"
    assert found.opens_in(2.0) == pytest.approx(30, abs=1)
    assert events(tx) == ["tripped"]


def test_failures_among_many_answers_stop_nothing(tx: Connection) -> None:
    fail(tx)
    answer(tx, 8)
    fail(tx, 6)
    assert current(tx).condition == "open"
    fail(tx, 1)
    assert current(tx).condition == "tripped"


def test_failures_that_are_long_over_do_not_count(tx: Connection) -> None:
    fail(tx, 2)
    tx.execute(update(schema.gate).values(counted_since=after(-CARE.breaker_window - 1)))
    fail(tx)

    assert (current(tx).condition, current(tx).bad) == ("open", 1)


def test_after_its_pause_only_the_probe_may_go(tx: Connection) -> None:
    fail(tx, 3)
    opened_ago(tx, 1)

    assert current(tx).condition == "probing"
    assert not current(tx).admits(JOB)
    assert current(tx).permits(1000.0) == 1
    gate.send_probe(tx, current(tx), JOB, 60.0)
    assert current(tx).permits(1000.0) == 0
    assert [current(tx).admits(one) for one in (JOB, OTHER)] == [True, False]


def test_a_probe_that_never_comes_back_is_followed_by_another(tx: Connection) -> None:
    probing(tx)
    tx.execute(update(schema.gate).values(probe_until=after(-1)))

    assert current(tx).permits(1000.0) == 1


def test_a_probe_that_could_not_be_sent_makes_room_for_another_at_once(tx: Connection) -> None:
    probing(tx)

    gate.recall_probe(tx, KEY, OTHER)
    assert current(tx).permits(1000.0) == 0
    gate.recall_probe(tx, KEY, JOB)

    assert current(tx).permits(1000.0) == 1
    assert current(tx).condition == "probing"


def test_a_probe_that_fails_stops_it_for_twice_as_long_up_to_a_limit(tx: Connection) -> None:
    waits = []
    fail(tx, 3)
    for _ in range(3):
        waits.append(round(current(tx).opens_in(2.0) or 0))
        opened_ago(tx, 1)
        gate.send_probe(tx, current(tx), JOB, 60.0)
        fail(tx)

    assert [*waits, round(current(tx).opens_in(2.0) or 0)] == [30, 60, 100, 100]


def test_what_was_on_its_way_before_says_nothing_of_a_stopped_key(tx: Connection) -> None:
    probing(tx)
    answer(tx, job=OTHER)
    fail(tx, job=OTHER)
    gate.refuse(tx, KEY, OTHER, "bad key")

    assert (current(tx).condition, current(tx).trips) == ("probing", 1)


def test_a_probe_that_is_answered_lets_the_rate_grow_back(tx: Connection) -> None:
    probing(tx)
    answer(tx)

    found = current(tx)
    assert (found.condition, found.reason, found.watched) == ("ramping", None, True)
    assert found.pace(CARE) == pytest.approx(0.1)
    assert found.slots(replace(CARE, max_in_flight=50)) == 5
    assert events(tx) == ["tripped", "closed"]
    tx.execute(update(schema.gate).values(ramp_at=after(-CARE.breaker_ramp / 2)))
    assert current(tx).pace(CARE) == pytest.approx(0.5, abs=0.05)


def test_a_key_that_grew_back_is_as_if_nothing_had_been(tx: Connection) -> None:
    probing(tx)
    answer(tx)
    tx.execute(update(schema.gate).values(ramp_at=after(-CARE.breaker_ramp - 1)))
    answer(tx)

    found = current(tx)
    assert (found.condition, found.watched, found.trips) == ("open", False, 0)
    assert found.pace(CARE) == 1.0


def test_while_the_rate_grows_back_two_failures_are_enough(tx: Connection) -> None:
    probing(tx)
    answer(tx)
    fail(tx, 2)

    assert (current(tx).condition, current(tx).trips) == ("tripped", 2)


def test_a_throttled_probe_is_no_answer(tx: Connection) -> None:
    probing(tx)
    gate.throttle(tx, KEY, 5.0)
    opened_ago(tx, 1)

    assert (current(tx).condition, current(tx).permits(2.0)) == ("probing", 1)


def test_an_operator_opens_a_stopped_key_at_once(tx: Connection) -> None:
    fail(tx, 3)

    assert gate.resume(tx, KEY)
    assert (current(tx).condition, current(tx).watched) == ("open", False)
    assert not gate.resume(tx, KEY)


def test_a_refused_key_is_tried_again_later_and_later(tx: Connection) -> None:
    waits = []
    for _ in range(8):
        gate.refuse(tx, KEY, JOB, "out of credit")
        waits.append(round(current(tx).opens_in(2.0) or 0))
        opened_ago(tx, 1)
        gate.send_probe(tx, current(tx), JOB, 60.0)

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_late_message_takes_a_fresh_permit_or_waits(tx: Connection) -> None:
    slow = Settings(rate=0.5)

    permits = gate.LatePermits(tx, KEY, slow)
    assert permits.take()
    assert not permits.take()
    permits.spend()
    assert not gate.LatePermits(tx, KEY, slow).take()
    assert current(tx).permits(0.5) == 0
