"""S10: what reaches the provider while the breaker is open, counted at its door."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cutwork import schema
from cutwork.states import State
from tests.house import House

FAILURES = 3
CARE = {
    "breaker_failures": FAILURES, "breaker_pause": 0.5, "breaker_longest": 0.5, "breaker_ramp": 0.5,
    "uncertain_grace": 0.2, "guard_window": 1.0,
}  # fmt: skip


@pytest.fixture
def build(empty_database: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., House]]:
    with ExitStack() as undo:

        def make(fault: str) -> House:
            faults = {"rates": {fault: 1.0}}
            house = House(empty_database("sqlite"), tmp_path, faults=faults, changes=CARE)
            return undo.enter_context(house)

        yield make


def happened(house: House) -> dict[str, int]:
    with house.engine.connect() as tx:
        kinds = list(tx.execute(select(schema.event.c.kind)).scalars())
    return {kind: kinds.count(kind) for kind in ("tripped", "refused", "closed")}


def sent(house: House) -> int:
    """How many submits the provider has seen."""
    ledger: dict[str, Any] = house.sandbox.ledger()
    return len(ledger["refused"]) + len(ledger["tasks"])


def test_while_it_is_open_nothing_but_probes_reaches_the_provider(
    build: Callable[[str], House],
) -> None:
    house = build("error_500")
    for _ in range(12):
        house.enqueue(max_paid_attempts=9)
    house.run(lambda: happened(house)["tripped"] >= 3, 30, "the breaker did not open three times")

    # The first time it opens at the third failure, and then at the failure of each probe.
    assert sent(house) == FAILURES + happened(house)["tripped"] - 1


@pytest.mark.parametrize("fault", ["bad_key", "no_credit_402"])
def test_a_refused_key_is_tried_by_nobody_for_a_minute(
    build: Callable[[str], House], fault: str
) -> None:
    house = build(fault)
    ids = [house.enqueue() for _ in range(5)]
    for _ in range(20):
        house.step()

    assert sent(house) == 1
    assert happened(house) == {"tripped": 0, "refused": 1, "closed": 0}
    assert {house.job(one).state for one in ids} == {State.QUEUED}


def test_when_the_provider_is_back_the_breaker_closes_and_every_job_ends(
    build: Callable[[str], House],
) -> None:
    house = build("error_500")
    ids = [house.enqueue(max_paid_attempts=9) for _ in range(8)]
    house.run(lambda: happened(house)["tripped"] >= 1, 30, "the breaker did not open")
    house.sandbox.set_faults({})

    jobs = house.settle(*ids, seconds=60)

    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert happened(house)["closed"] == 1
    assert house.charges() == len(ids)
