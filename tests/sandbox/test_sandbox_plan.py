"""The plan: drawn from the seed and the submit's number, and checked before it is used."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cutwork.errors import InvalidInput
from cutwork.sandbox.faults import CATALOGUE, FAILURES
from cutwork.sandbox.plan import Plan

MIXED = {
    "seed": 3,
    "rates": {
        "lost_callback": 0.2,
        "duplicate_callback": 0.1,
        "error_500": 0.3,
        "task_failed": 0.5,
    },
}


def drawn(plan: dict[str, Any], count: int = 200) -> list[dict[str, float]]:
    read = Plan.read(plan)
    return [dict(read.draw(ordinal).values) for ordinal in range(count)]


def test_the_same_seed_draws_the_same_faults() -> None:
    assert drawn(MIXED) == drawn(MIXED)
    assert drawn(MIXED) != drawn({**MIXED, "seed": 4})


def test_a_submits_faults_do_not_depend_on_the_others() -> None:
    plan = Plan.read(MIXED)

    backwards = [dict(plan.draw(ordinal).values) for ordinal in reversed(range(50))]

    assert backwards[::-1] == drawn(MIXED, 50)


def test_the_sandboxs_seed_is_used_when_the_plan_has_none() -> None:
    rates = {"rates": MIXED["rates"]}

    assert Plan.read(rates, 3).draw(5) == Plan.read(MIXED).draw(5)


def test_rates_come_true() -> None:
    counts = Counter(name for faults in drawn(MIXED, 5000) for name in faults)

    shares = {name: count / 5000 for name, count in counts.items()}
    assert shares == pytest.approx(MIXED["rates"], abs=0.025)


def test_faults_of_one_stage_exclude_each_other() -> None:
    for faults in drawn({"rates": {"throttle": 0.5, "error_500": 0.5}}):
        assert len(faults) == 1


def test_failed_states_are_drawn_from_all_or_from_those_given() -> None:
    every = {faults["task_failed"] for faults in drawn({"rates": {"task_failed": 1}}, 500)}
    some = drawn({"rates": {"task_failed": 1}, "values": {"task_failed": [-5, -8]}})

    assert every == set(FAILURES)
    assert {faults["task_failed"] for faults in some} == {-5, -8}


def test_a_schedule_replaces_the_rates_for_its_submit() -> None:
    plan = {"rates": {"throttle": 1}, "schedule": {"1": [], "2": ["error_500"]}}

    names = [list(faults) for faults in drawn(plan, 4)]
    assert names == [["throttle"], [], ["error_500"], ["throttle"]]


def test_values_come_from_the_entry_the_plan_or_the_catalogue() -> None:
    plan = {
        "values": {"delayed_callback": 7},
        "schedule": {
            "0": [{"delayed_callback": 1.5}],
            "1": ["delayed_callback"],
            "2": ["result_slow"],
        },
    }

    assert [list(faults.values()) for faults in drawn(plan, 3)] == [[1.5], [7.0], [5]]


def test_repetitions_end_unless_they_are_0() -> None:
    plan = Plan.read({"schedule": {"0": ["query_404"]}, "times": {"query_404": 0}})
    usual = Plan.read({"schedule": {"0": ["query_404"]}})

    assert plan.draw(0).of("query", 1000) == "query_404"
    assert [usual.draw(0).of("query", count) for count in (1, 2)] == ["query_404", ""]


def test_threads_change_nothing_about_which_submit_gets_which_fault(make_client: Any) -> None:
    def outcome(workers: int) -> dict[int, list[str]]:
        client = make_client(faults={"rates": {"error_500": 0.3, "throttle": 0.3}})
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda _: client.submit(), range(24)))
        return {row["ordinal"]: row["reason"] for row in client.sandbox.ledger()["refused"]}

    assert outcome(1) == outcome(8) != {}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([], "plan must be a JSON object"),
        ({"rate": {}}, "did you mean rates?"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"rates": []}, "rates must be a JSON object"),
        ({"rates": {"lost_calback": 0.1}}, "did you mean lost_callback?"),
        ({"rates": {"xyz": 0.1}}, "use one of refuse_connection_reset"),
        ({"rates": {"lost_callback": 2}}, "must be a number from 0 to 1, got 2"),
        ({"rates": {"lost_callback": True}}, "must be a number from 0 to 1"),
        ({"rates": {"lost_callback": float("nan")}}, "must be a number from 0 to 1"),
        ({"rates": {"throttle": 0.6, "error_500": 0.5}}, "stage refusal must add up to at most 1"),
        ({"schedule": {"x": []}}, "must count submits from 0"),
        ({"schedule": {"0": "lost_callback"}}, "schedule.0 must be a list"),
        ({"schedule": {"0": [7]}}, "schedule.0 is not a fault"),
        ({"schedule": {"0": [[]]}}, "schedule.0 is not a fault"),
        ({"schedule": {"0": ["throttle", "error_500"]}}, "exclude each other"),
        ({"schedule": {"0": [{"task_failed": 1}]}}, "must be a negative state"),
        ({"schedule": {"0": [{"task_failed": [-1]}]}}, "must be one number"),
        ({"values": {"lost_callback": 1}}, "takes no value"),
        ({"values": {"result_slow": "long"}}, r"must be a number \(s\)"),
        ({"values": {"task_failed": []}}, "must be a negative state"),
        ({"times": {"lost_callback": 1}}, "happens once for each submit"),
        ({"times": {"query_404": 0.5}}, "must be a whole number"),
    ],
)
def test_a_plan_that_cannot_be_meant_says_why(plan: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Plan.read(plan)


def test_every_fault_says_what_it_does_in_a_sentence() -> None:
    assert all(fault.doc.endswith(".") for fault in CATALOGUE.values())
    assert all(fault.unit for fault in CATALOGUE.values() if fault.value is not None)
