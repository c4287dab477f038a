"""T2: the real worker, reconciler and webhook under a seed's schedule of faults.

The base seed is today's date; ``CUTWORK_TEST_SEEDS`` says how many seeds are run, and
``CUTWORK_TEST_SEED`` which is the first. A failure says how to repeat its seed.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from cutwork import gate, ledger
from cutwork.drill.seeds import simulate_all
from cutwork.drill.simulator import Broken, Place, simulate
from cutwork.drill.verdict import SITUATIONS

pytestmark = [pytest.mark.long, pytest.mark.no_cover, pytest.mark.flaky(reruns=0)]

SEEDS = int(os.environ.get("CUTWORK_TEST_SEEDS", "500"))
BASE = int(os.environ.get("CUTWORK_TEST_SEED", f"{datetime.now(UTC):%Y%m%d}0000"))
JOBS = 20
# The simulator does not count charges that are explained.
SOMETIMES = SITUATIONS - {"second charge, counted"}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place() as made:
        yield made


@pytest.mark.timeout(1500)  # what turns in circles ends by itself; what waits for itself does not
def test_the_invariants_hold_for_every_seed_and_each_trouble_has_happened() -> None:
    sys.stdout.write(f"CUTWORK_TEST_SEED={BASE} CUTWORK_TEST_SEEDS={SEEDS}\n")
    happened: Counter[str] = Counter()
    for _seed, came in simulate_all(range(BASE, BASE + SEEDS), JOBS, processes=2):
        if isinstance(came, Broken):
            raise came
        happened += came.sometimes
    if SEEDS >= 100:
        assert happened.keys() >= SOMETIMES, f"never happened: {SOMETIMES - happened.keys()}"


def test_a_seed_gives_the_same_trace_every_time(place: Place) -> None:
    first, second = [], []
    outcomes = [simulate(7, JOBS, place, lines) for lines in (first, second)]
    assert first == second
    assert outcomes[0] == outcomes[1]
    assert len(first) > 100


def test_another_seed_gives_another_trace(place: Place) -> None:
    assert simulate(7, JOBS, place).digest != simulate(8, JOBS, place).digest


def test_a_simulation_runs_on_postgresql_too(empty_database: Callable[[str], str]) -> None:
    with Place(empty_database("postgresql")) as elsewhere:
        for seed in range(BASE, BASE + 5):
            assert simulate(seed, 8, elsewhere).states.total() == 8
            assert elsewhere.engine.pool.checkedout() == 0


def first_broken(place: Place, seeds: int) -> Broken:
    for seed in range(seeds):
        try:
            simulate(seed, JOBS, place)
        except Broken as broken:
            return broken
    raise AssertionError(f"not noticed in {seeds} seeds")


def test_a_lost_reply_that_is_taken_for_a_refusal_is_noticed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_sent = ledger.not_sent
    monkeypatch.setattr(ledger, "lost", lambda tx, ticket, why, _: not_sent(tx, ticket, why))
    broken = first_broken(place, 100)
    assert "S3" in str(broken)
    assert f"simulate --seed {broken.seed} --jobs {JOBS}" in str(broken)


def test_a_gate_that_lets_everything_through_is_noticed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate.Gate, "permits", lambda *_: 100)
    assert "S10" in str(first_broken(place, 20))
