"""The provider's rate limit, and what is measured at its door."""

from typing import Any

import pytest

from cutwork.sandbox.limits import Meter, key_id


def test_over_the_rate_is_429_and_no_task(make_client: Any) -> None:
    client = make_client(rate=2)

    statuses = [client.submit().status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
    ledger = client.sandbox.ledger()
    assert len(ledger["tasks"]) == 2
    assert [(entry["status"], entry["ordinal"]) for entry in ledger["refused"]] == [(429, None)]


def test_submits_and_queries_count_together_and_keys_apart(make_client: Any) -> None:
    client = make_client(rate=2)
    other = make_client("another", sandbox=client.sandbox)
    task_id = client.accept()

    assert [client.query(task_id).status_code for _ in range(2)] == [200, 429]
    assert other.submit().status_code == 200


def test_a_429_of_the_limit_has_no_retry_after(make_client: Any) -> None:
    client = make_client(rate=1)
    client.submit()

    assert "Retry-After" not in client.submit().headers


def test_the_rate_lets_in_again_after_a_while(make_client: Any, until: Any) -> None:
    client = make_client(rate=5)

    until(lambda: client.submit().status_code, lambda status: status == 429)
    until(lambda: client.submit().status_code, lambda status: status == 200, seconds=1)


def test_throttled_submits_do_not_move_the_plan(make_client: Any) -> None:
    client = make_client(rate=1, faults={"schedule": {"1": ["error_500"]}})
    client.submit()

    assert [client.submit().status_code for _ in range(2)] == [429, 429]
    assert client.sandbox.ledger()["refused"][-1]["ordinal"] is None


def test_the_summary_measures_each_key(make_client: Any) -> None:
    client = make_client()
    task_id = client.accept()
    client.query(task_id)

    [summary] = client.sandbox.ledger()["keys"].values()

    assert list(client.sandbox.ledger()["keys"]) == [key_id(client.token)]
    assert (summary["submits"], summary["queries"], summary["throttled"]) == (1, 1, 0)
    assert (summary["busiest_second"], summary["most_open"]) == (2, 1)
    assert [kind for _, kind, _ in summary["times"]] == ["submit", "query"]


def test_the_most_open_requests_are_counted() -> None:
    meter = Meter(0)

    with meter.request("k", "submit"), meter.request("k", "query"):
        pass
    with meter.request("k", "submit"):
        pass

    assert meter.summary()["k"]["most_open"] == 2


@pytest.mark.parametrize("rate", [0.5, 1, 2.5])
def test_a_burst_is_at_most_the_rate_and_at_least_one(rate: float) -> None:
    meter = Meter(rate)
    let_in = 0
    for _ in range(10):
        with meter.request("k", "submit") as passed:
            let_in += passed

    assert let_in == max(1, int(rate))
