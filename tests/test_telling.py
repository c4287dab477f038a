"""What a URL is told: signed so that a subscriber's own package verifies it, and nothing leaks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from cutwork import telling
from cutwork.job import File, Job
from cutwork.notices import Notice, Told, host_of
from cutwork.settings import Settings
from cutwork.states import State
from tests.services.ports import free_port
from tests.subscriber import Subscriber

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
OLDER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = Settings(notify_secrets=(SECRET,), notify_networks=("127.0.0.0/8",), notify_timeout=5.0)
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    with Subscriber() as made:
        yield made


def notice(target: str, tries: int = 1) -> Notice:
    return Notice(
        id=UUID(int=7), job_id=uuid4(), state="succeeded", target=target, host=host_of(target),
        tries=tries, created_at=NOW, at=NOW,
    )  # fmt: skip


def job(**changes: Any) -> Job:
    file = File(uri="s3://shop/a.png", size=1, sha256="0" * 64, format="png", width=1, height=1)
    known: dict[str, Any] = {
        "id": uuid4(), "state": State.SUCCEEDED, "kind": "segmentation",
        "request": {"image_url": "https://shop.example/a.jpg?signature=hidden"},
        "owner": "shop-7", "idempotency_key": "order-1", "priority": 5, "meta": {"order": 1},
        "files": {"image": file}, "decided_by": "callback", **changes,
    }  # fmt: skip
    return Job(**known)


def test_the_body_names_the_event_and_the_job_and_no_address_of_others() -> None:
    done = job()
    told = json.loads(telling.message(notice("https://shop.example/"), done))
    assert told == {
        "type": "job.succeeded",
        "timestamp": "2026-11-27T12:00:00+00:00",
        "data": {
            "id": str(done.id),
            "state": "succeeded",
            "owner": "shop-7",
            "idempotency_key": "order-1",
            "meta": {"order": 1},
            "image": "s3://shop/a.png",
            "mask": None,
            "error": None,
            "decided_by": "callback",
        },
    }


def test_a_subscriber_verifies_it_with_the_schemes_own_package(subscriber: Subscriber) -> None:
    body = telling.message(notice(subscriber.url), job())
    assert telling.post(notice(f"{subscriber.url}?shop=7"), body, SETTINGS) == Told()
    (heard,) = subscriber.heard
    assert heard.path == "/hooks/cut?shop=7"
    assert heard.headers["Content-Type"] == "application/json"
    assert Webhook(SECRET).verify(heard.body, heard.headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLDER).verify(heard.body, heard.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(heard.body.replace(b"succeeded", b"cancelled"), heard.headers)


def test_while_secrets_are_exchanged_either_verifies(subscriber: Subscriber) -> None:
    settings = replace(SETTINGS, notify_secrets=(SECRET, OLDER))
    assert telling.post(notice(subscriber.url), b"{}", settings) == Told()
    (heard,) = subscriber.heard
    for secret in (SECRET, OLDER):
        assert Webhook(secret).verify(heard.body, heard.headers) == {}


def test_each_try_has_the_same_id(subscriber: Subscriber) -> None:
    for tries in (1, 2):
        telling.post(notice(subscriber.url, tries), b"{}", SETTINGS)
    first, second = (one.headers["webhook-id"] for one in subscriber.heard)
    assert first == second == f"msg_{UUID(int=7).hex}"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (204, {}, Told()),
        (302, {"Location": "http://127.0.0.1:1/"}, Told("it answered 302")),
        (401, {}, Told("it answered 401")),
        (410, {}, Told("it answered 410: it wants to hear no more", final=True)),
        (429, {"Retry-After": "7"}, Told("it answered 429", retry_after=7.0, silent=True)),
        (500, {}, Told("it answered 500", silent=True)),
    ],
)
def test_only_2xx_means_that_it_was_heard(
    subscriber: Subscriber, status: int, headers: dict[str, str], expected: Told
) -> None:
    subscriber.answers = [(status, headers)]
    assert telling.post(notice(subscriber.url), b"{}", SETTINGS) == expected
    assert len(subscriber.heard) == 1


def test_who_does_not_answer_is_not_waited_for(subscriber: Subscriber) -> None:
    subscriber.gate.clear()
    told = telling.post(notice(subscriber.url), b"{}", replace(SETTINGS, notify_timeout=0.3))
    assert told == Told("no answer within 0.3 s", silent=True)


def test_who_is_not_there_is_silent() -> None:
    told = telling.post(notice(f"http://127.0.0.1:{free_port()}/"), b"{}", SETTINGS)
    assert told.silent
    assert "ConnectionRefusedError" in told.fault


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_inner_address_is_told_nothing_unless_its_network_is_named(
    subscriber: Subscriber, host: str
) -> None:
    url = subscriber.url.replace("127.0.0.1", host)
    told = telling.post(notice(url), b"{}", replace(SETTINGS, notify_networks=()))
    assert "nobody may be told there" in told.fault
    assert "CUTWORK_NOTIFY_NETWORKS" in told.fault
    assert not told.silent
    assert subscriber.heard == []


def test_without_a_secret_nothing_is_sent(subscriber: Subscriber) -> None:
    told = telling.post(notice(subscriber.url), b"{}", replace(SETTINGS, notify_secrets=()))
    assert "CUTWORK_NOTIFY_SECRETS is not set" in told.fault
    assert subscriber.heard == []


def test_no_fault_repeats_the_query(subscriber: Subscriber) -> None:
    url = subscriber.url.replace("/hooks", ":1/hooks") + "?token=hunter2"
    for target in (url, f"http://127.0.0.1:{free_port()}/?token=hunter2"):
        assert "hunter2" not in telling.post(notice(target), b"{}", SETTINGS).fault
