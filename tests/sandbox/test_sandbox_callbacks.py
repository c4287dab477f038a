"""Callbacks: their shape, their retries, their record."""

import json
from typing import Any

import pytest


def test_a_callback_is_a_json_post_shaped_like_a_query(
    make_client: Any, make_receiver: Any
) -> None:
    receiver = make_receiver()
    client = make_client()
    task_id = client.accept(callback_url=receiver.url)

    [arrival] = receiver.wait()

    assert (arrival.method, arrival.path) == ("POST", "/callbacks/token")
    assert arrival.content_type == "application/json"
    assert json.loads(arrival.body) == client.query(task_id).json()


def test_a_failed_task_calls_back_too(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults={"schedule": {"0": [{"task_failed": -8}]}})
    client.accept(callback_url=receiver.url)

    assert json.loads(receiver.wait()[0].body)["data"]["state"] == -8


def test_a_synchronous_task_calls_back_too(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    make_client().submit(sync=1, callback_url=receiver.url)

    assert receiver.wait()


@pytest.mark.parametrize("status", [302, 404, 503])
def test_a_callback_is_tried_again_until_it_is_taken(
    make_client: Any, make_receiver: Any, until: Any, status: int
) -> None:
    receiver = make_receiver(status)
    client = make_client()
    task_id = client.accept(callback_url=receiver.url)
    receiver.wait(2)

    callbacks = until(lambda: client.row(task_id)["callbacks"], lambda rows: len(rows) == 2)

    assert [(entry["status"], entry["try"]) for entry in callbacks] == [(status, 0), (200, 1)]
    assert {arrival.path for arrival in receiver.arrivals} == {"/callbacks/token"}


@pytest.mark.parametrize("retries", [0, 1])
def test_a_callback_is_given_up_after_its_retries(make_client: Any, retries: int) -> None:
    client = make_client(
        callback_retries=retries,
        faults={
            "schedule": {"0": ["reply_after_callback"]},
        },
    )

    task_id = client.accept(callback_url="http://127.0.0.1:9/callbacks/x")

    callbacks = client.row(task_id)["callbacks"]
    assert [entry["status"] for entry in callbacks] == [0] * (retries + 1)
    assert callbacks[0]["error"] == "ConnectionError"


def test_the_record_sums_up_what_was_sent(make_client: Any, make_receiver: Any, until: Any) -> None:
    receiver = make_receiver()
    client = make_client()
    task_id = client.accept(callback_url=receiver.url)

    [entry] = until(lambda: client.row(task_id)["callbacks"])

    assert entry["at"] >= client.row(task_id)["completed_at"]
    assert entry["bytes"] == len(receiver.arrivals[0].body)
    assert (entry["kind"], entry["state"], entry["progress"], entry["method"]) == (
        "final",
        1,
        100,
        "POST",
    )


def test_a_task_that_was_reset_calls_nobody(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults={"schedule": {"0": [{"delayed_callback": 0.1}]}})
    client.finish(client.accept(callback_url=receiver.url))
    client.sandbox.reset()
    client.sandbox.set_faults({"schedule": {"0": [{"delayed_callback": 0.3}]}})

    client.accept(callback_url=receiver.url)

    receiver.wait()
    assert len(receiver.arrivals) == 1
