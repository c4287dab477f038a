"""Every fault, as it looks on the wire."""

import json
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from PIL import Image

from cutwork.sandbox.faults import CATALOGUE


def first(*faults: Any, **options: Any) -> dict[str, Any]:
    """A plan under which the first submit has these faults."""
    return {"schedule": {"0": list(faults)}, **options}


def data_of(arrival: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(arrival.body)["data"]
    return found


def test_every_fault_has_a_test_here() -> None:
    text = Path(__file__).read_text()

    assert [name for name in CATALOGUE if f'"{name}"' not in text] == []


@pytest.mark.parametrize(
    ("fault", "status", "kind", "text"),
    [
        ("throttle", 429, "application/json", '"status": 429'),
        ("error_500", 500, "application/json", '"message": "internal server error"'),
        ("error_502_html", 502, "text/html", "<title>502 Bad Gateway"),
        ("error_520_text", 520, "text/plain", "error code: 520"),
        ("client_error_as_500", 500, "application/json", '"message": "image is required"'),
        ("bad_key", 401, "application/json", "Invalid token"),
        ("no_credit", 401, "application/json", "insufficient_user_quota"),
        ("no_credit_402", 402, "application/json", '"code": "insufficient_balance"'),
    ],
)
def test_a_refused_submit_makes_no_task(
    make_client: Any, fault: str, status: int, kind: str, text: str
) -> None:
    client = make_client(faults=first(fault))

    reply = client.submit()

    assert reply.status_code == status
    assert reply.headers["Content-Type"].startswith(kind)
    assert "Retry-After" not in reply.headers
    assert text in reply.text
    ledger = client.sandbox.ledger()
    assert ledger["tasks"] == []
    assert [(entry["reason"], entry["status"]) for entry in ledger["refused"]] == [(fault, status)]
    assert client.submit().status_code == 200


def test_throttle_retry_after_says_how_long(make_client: Any) -> None:
    reply = make_client(faults=first({"throttle_retry_after": 9})).submit()

    assert "throttle_retry_after" in CATALOGUE
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "9")


def test_a_connection_that_is_reset_before_reading_makes_no_task(make_client: Any) -> None:
    client = make_client(faults=first("refuse_connection_reset"))

    # Whether the client meets the reset while it sends or while it reads, the moment decides.
    with pytest.raises(requests.ConnectionError, match="Connection aborted"):
        client.submit()

    assert client.sandbox.ledger()["tasks"] == []
    assert client.sandbox.ledger()["refused"][0]["status"] == 0


def test_a_connection_that_is_reset_after_accepting_leaves_a_charged_task(make_client: Any) -> None:
    client = make_client(faults=first("accept_then_reset"))

    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        client.submit()

    row = client.finish(client.sandbox.ledger()["tasks"][0]["task_id"])
    assert (row["charges"], row["reply"]) == (1, "reset")


def test_accept_then_timeout_keeps_silent(make_client: Any) -> None:
    client = make_client(faults=first("accept_then_timeout"))

    with pytest.raises(requests.ReadTimeout):
        client.submit(timeout=0.3)

    assert client.finish(client.sandbox.ledger()["tasks"][0]["task_id"])["charges"] == 1


def test_the_silence_ends_with_a_closed_connection(make_client: Any) -> None:
    client = make_client(faults=first({"accept_then_timeout": 0.2}))
    started = time.monotonic()

    with pytest.raises(requests.ConnectionError):
        client.submit()

    assert 0.2 <= time.monotonic() - started < 2


def test_reply_after_callback_comes_after_it(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("reply_after_callback"))

    task_id = client.accept(callback_url=receiver.url)

    assert [data_of(arrival)["task_id"] for arrival in receiver.arrivals] == [task_id]


def test_done_at_once_answers_the_result(make_client: Any) -> None:
    data = make_client(faults=first("done_at_once")).submit(sync=0).json()["data"]

    assert data["state"] == 1
    assert requests.get(data["image"], timeout=5).content.startswith(b"\x89PNG")


def test_sync_pending_answers_only_a_task_id(make_client: Any) -> None:
    data = make_client(faults=first("sync_pending")).submit(sync=1).json()["data"]

    assert list(data) == ["task_id"]


@pytest.mark.parametrize("state", [-1, -3, -8, -15, -17, -99])
def test_task_failed_ends_in_its_state(make_client: Any, state: int) -> None:
    client = make_client(faults=first({"task_failed": state}))

    row = client.finish(client.accept())

    assert (row["state"], row["charges"], row["faults"]) == (state, 0, {"task_failed": state})
    assert client.query(row["task_id"]).json()["data"]["state"] == state


def test_stuck_at_4_never_ends(make_client: Any, until: Any) -> None:
    client = make_client(faults=first("stuck_at_4"))
    task_id = client.accept()
    until(lambda: client.row(task_id)["state"], lambda state: state == 4)
    client.finish(client.accept())

    data = client.query(task_id).json()["data"]

    assert (data["state"], data["progress"]) == (4, 21)


def test_a_lost_callback_is_not_sent(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("lost_callback"))
    lost = client.accept(callback_url=receiver.url)
    client.finish(lost)
    told = client.accept(callback_url=receiver.url)

    assert [data_of(arrival)["task_id"] for arrival in receiver.wait()] == [told]
    assert client.row(lost)["callbacks"] == []


def test_a_duplicate_callback_comes_as_often_as_asked(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first({"duplicate_callback": 3}))
    client.accept(callback_url=receiver.url)

    assert len({arrival.body for arrival in receiver.wait(3)}) == 1
    assert len(receiver.arrivals) == 3


def test_a_delayed_callback_comes_late(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first({"delayed_callback": 0.4}))
    task_id = client.accept(callback_url=receiver.url)
    receiver.wait()

    row = client.row(task_id)

    assert row["callbacks"] == [] or row["callbacks"][0]["at"] - row["completed_at"] >= 0.4


def test_a_reordered_callback_tells_of_progress_after_the_end(
    make_client: Any, make_receiver: Any
) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("reordered_callback"))
    client.accept(callback_url=receiver.url)

    assert [data_of(arrival)["state"] for arrival in receiver.wait(2)] == [1, 4]


def test_a_progress_callback_comes_before_the_final_one(
    make_client: Any, make_receiver: Any
) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("progress_callback"))
    client.accept(callback_url=receiver.url)

    told = [data_of(arrival) for arrival in receiver.wait(2)]
    assert [(data["state"], data["progress"]) for data in told] == [(4, 21), (1, 100)]


def test_progress_without_an_address_changes_nothing(make_client: Any) -> None:
    client = make_client(faults=first("progress_callback"))

    assert client.finish(client.accept())["state"] == 1


def test_a_form_callback_is_form_encoded(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("form_callback"))
    task_id = client.accept(callback_url=receiver.url)

    [arrival] = receiver.wait()

    form = parse_qs(arrival.body.decode(), keep_blank_values=True)
    assert arrival.content_type == "application/x-www-form-urlencoded"
    assert (form["task_id"], form["state"], form["status"]) == ([task_id], ["1"], ["200"])
    assert json.loads(form["foreground_rect"][0])["width"] == 20


def test_a_bare_callback_has_no_wrapper(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("bare_callback"))
    task_id = client.accept(callback_url=receiver.url)

    body = json.loads(receiver.wait()[0].body)

    assert (body["task_id"], body["state"]) == (task_id, 1)
    assert "data" not in body


def test_a_get_callback_has_its_fields_in_the_query(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("get_callback"))
    task_id = client.accept(callback_url=f"{receiver.url}?mine=1")

    [arrival] = receiver.wait()

    query = parse_qs(urlsplit(arrival.path).query)
    assert (arrival.method, arrival.body) == ("GET", b"")
    assert (query["mine"], query["task_id"], query["state"]) == (["1"], [task_id], ["1"])


def test_a_garbage_callback_cannot_be_read(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults=first("garbage_callback"))
    client.accept(callback_url=receiver.url)

    with pytest.raises(UnicodeDecodeError):
        receiver.wait()[0].body.decode()


def test_a_wrong_task_id_callback_names_another_task(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(faults={"schedule": {"1": ["wrong_task_id_callback"]}})
    other, mine = client.accept(), client.accept(callback_url=receiver.url)

    [arrival] = receiver.wait()

    assert data_of(arrival)["task_id"] == other != mine


@pytest.mark.parametrize(
    ("fault", "status"),
    [("query_404", 404), ("query_500", 500), ("query_html", 502), ("query_throttle", 429)],
)
def test_queries_fail_as_often_as_asked_and_then_work(
    make_client: Any, fault: str, status: int
) -> None:
    client = make_client(faults=first(fault, times={fault: 3}))
    task_id = client.accept()

    assert [client.query(task_id).status_code for _ in range(5)] == [*[status] * 3, 200, 200]


def test_the_connection_of_a_query_is_reset(make_client: Any) -> None:
    client = make_client(faults=first("query_reset", times={"query_reset": 1}))
    task_id = client.accept()

    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        client.query(task_id)

    assert client.query(task_id).status_code == 200


def test_an_expired_result_is_denied_for_ever(make_client: Any) -> None:
    link = make_client(faults=first("result_expired")).link()

    for _ in range(3):
        reply = requests.get(link, timeout=5)
        assert reply.status_code == 403
        assert "<Code>AccessDenied</Code><Message>Request has expired." in reply.text


def test_a_truncated_result_promises_more_than_comes(make_client: Any) -> None:
    link = make_client(faults=first("result_truncated")).link()

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        requests.get(link, timeout=5)

    assert requests.get(link, timeout=5).content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("fault", "announced"), [("result_oversized", "300000"), ("result_endless", None)]
)
def test_a_result_is_as_large_as_asked(make_client: Any, fault: str, announced: str | None) -> None:
    link = make_client(faults=first({fault: 300_000})).link()

    reply = requests.get(link, timeout=5)

    assert reply.headers.get("Content-Length") == announced
    assert len(reply.content) == 300_000


def test_a_result_of_the_wrong_size_is_a_picture_all_the_same(make_client: Any) -> None:
    link = make_client(faults=first("result_wrong_size")).link()

    with Image.open(BytesIO(requests.get(link, timeout=5).content)) as dot:
        dot.load()
        assert dot.size == (1, 1)
    with Image.open(BytesIO(requests.get(link, timeout=5).content)) as cut:
        assert cut.size != (1, 1)


def test_a_result_of_the_wrong_type_is_a_page(make_client: Any) -> None:
    reply = requests.get(make_client(faults=first("result_wrong_type")).link(), timeout=5)

    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.text.startswith("<!DOCTYPE html>")


def test_a_redirected_result_leads_to_another_host_and_is_counted(make_client: Any) -> None:
    client = make_client(faults=first("result_redirect"))
    link = client.link()

    reply = requests.get(link, timeout=5, allow_redirects=False)
    assert reply.status_code == 302
    assert urlsplit(reply.headers["Location"]).hostname == "localhost"
    assert client.sandbox.ledger()["tasks"][0]["strays"] == 0

    assert requests.get(link, timeout=5).content.startswith(b"\x89PNG")
    assert client.sandbox.ledger()["tasks"][0]["strays"] == 1


def test_a_slow_result_takes_its_time(make_client: Any) -> None:
    link = make_client(faults=first({"result_slow": 0.4})).link()
    started = time.monotonic()

    reply = requests.get(link, timeout=5)

    assert time.monotonic() - started >= 0.4
    assert len(reply.content) == int(reply.headers["Content-Length"])


def test_slow_everything_slows_the_reply_the_query_the_callback_and_the_result(
    make_client: Any, make_receiver: Any
) -> None:
    receiver = make_receiver()
    client = make_client(faults=first({"slow_everything": 0.15}))

    def took(action: Any) -> float:
        started = time.monotonic()
        action()
        return time.monotonic() - started

    assert took(lambda: client.submit(callback_url=receiver.url)) >= 0.15
    task_id = client.sandbox.ledger()["tasks"][0]["task_id"]
    assert took(lambda: client.query(task_id)) >= 0.15
    receiver.wait()
    link = client.query(task_id).json()["data"]["image"]
    assert took(lambda: requests.get(link, timeout=5)) >= 0.15


def test_string_numbers_are_strings_and_nulls(make_client: Any) -> None:
    body = make_client(faults=first("string_numbers")).submit(sync=1).json()

    data = body["data"]
    assert (body["status"], data["state"], data["err_info"]) == ("200", "1", None)
    assert data["foreground_rect"] == {"x": "10", "y": "7", "width": "20", "height": "16"}
    assert "time_elapsed" not in data


def test_no_state_detail_leaves_only_the_number(make_client: Any) -> None:
    client = make_client(faults=first("no_state_detail", {"task_failed": -10}))

    data = client.submit(sync=1).json()["data"]

    assert data["state"] == -10
    assert not {"state_detail", "err_info"} & set(data)


def test_faults_of_several_stages_come_together(make_client: Any, make_receiver: Any) -> None:
    receiver = make_receiver()
    client = make_client(
        faults=first("accept_then_reset", "duplicate_callback", "form_callback", "query_404")
    )
    with pytest.raises(requests.ConnectionError):
        client.submit(callback_url=receiver.url)

    kinds = {arrival.content_type for arrival in receiver.wait(2)}

    assert kinds == {"application/x-www-form-urlencoded"}
    assert client.query(client.sandbox.ledger()["tasks"][0]["task_id"]).status_code == 404


def test_a_plan_may_be_replaced_over_http_and_restart_the_count(make_client: Any) -> None:
    client = make_client()
    client.accept()
    plan = {**first("error_500"), "reset_ordinal": True}

    reply = requests.post(f"{client.sandbox.url}/_sandbox/faults", json=plan, timeout=5)

    assert reply.status_code == 200
    assert [client.submit().status_code for _ in range(2)] == [500, 200]


def test_a_plan_that_keeps_the_count_does_not_hit_the_past(make_client: Any) -> None:
    client = make_client()
    client.accept()
    client.sandbox.set_faults(first("error_500"))

    assert client.submit().status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"rates": {"lost_calback": 1}}', "did you mean lost_callback?"),
        (b'{"reset_ordinal": 1}', "must be true or false"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(
    make_client: Any, body: bytes, message: str
) -> None:
    client = make_client(faults=first("error_500"))

    reply = requests.post(f"{client.sandbox.url}/_sandbox/faults", data=body, timeout=5)

    assert reply.status_code == 400
    assert message in reply.json()["message"]
    assert client.submit().status_code == 500
