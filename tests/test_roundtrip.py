"""The broker is tried both ways, on each kind of it, and nothing is left there."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from cutwork import roundtrip
from cutwork.doctor import examine
from cutwork.finding import FAULT, OK, Finding
from cutwork.settings import Settings
from tests.services.private import PrivateServer
from tests.world import SETTINGS


def carried(tmp_path: Path, url: str) -> Finding:
    return roundtrip.send_and_receive(replace(SETTINGS, home=tmp_path, broker_url=url))


def test_a_message_goes_and_comes_back(tmp_path: Path, broker_url: str) -> None:
    assert carried(tmp_path, broker_url) == Finding(
        OK, "broker", "a message went to the broker and came back", "", "broker_ok"
    )
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_on_redis(tmp_path: Path, empty_broker: Callable[[str], str]) -> None:
    url = empty_broker("redis")
    with redis.Redis.from_url(url) as client:
        before = client.keys("*")

    assert carried(tmp_path, url).level == OK

    with redis.Redis.from_url(url) as client:
        assert client.keys("*") == before


def test_no_queue_is_left_on_rabbitmq(
    tmp_path: Path, empty_broker: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import kombu

    monkeypatch.setattr(roundtrip.secrets, "token_hex", lambda size: "known" * size)
    url = empty_broker("rabbitmq")
    assert carried(tmp_path, url).level == OK

    with kombu.Connection(url) as connection, pytest.raises(Exception, match="NOT_FOUND"):
        connection.default_channel.queue_declare("cutwork.doctor." + "known" * 8, passive=True)


def test_the_embedded_brokers_folders_stay_as_they_were(tmp_path: Path) -> None:
    messages = tmp_path / "broker" / "messages"
    messages.mkdir(parents=True)
    (messages / "1_x.cutwork.submit.msg").write_text("{}")

    assert carried(tmp_path, "filesystem://").level == OK
    assert [path.name for path in messages.iterdir()] == ["1_x.cutwork.submit.msg"]
    assert [path.name for path in (tmp_path / "broker").iterdir()] == ["messages"]


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    home = tmp_path / "new"
    (one,) = broker_of(replace(SETTINGS, home=home))

    assert one.level == OK
    assert "can keep its files under" in one.sentence
    assert not home.exists()


def test_a_home_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (one,) = broker_of(replace(SETTINGS, home=tmp_path / "file" / "home"))

    assert (one.level, one.remedy) == (FAULT, "set CUTWORK_HOME to a directory that is yours")


def broker_of(settings: Settings) -> list[Finding]:
    return [one for one in examine(settings, ask_outside=False) if one.about == "broker"]


def test_a_redis_without_memory_carries_nothing(
    tmp_path: Path, private_redis: PrivateServer
) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory", "1")
        one = carried(tmp_path, private_redis.url)
        client.config_set("maxmemory", "0")

    assert one.level == FAULT
    assert "lets us in, and does not carry a message (" in one.sentence
    assert "'maxmemory'" in one.sentence
    assert "memory" in one.remedy


def test_a_broker_that_loses_the_message_goes_one_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = tmp_path / "broker" / "messages"
    messages.mkdir(parents=True)
    over = threading.Event()
    monkeypatch.setattr(roundtrip, "_PATIENCE", 0.4)
    monkeypatch.setattr(roundtrip, "_LOOK", 0.3)
    real: Callable[..., Any] = roundtrip._receive

    def robbed(*args: Any) -> Any:
        for path in messages.iterdir():
            path.unlink()
        over.set()
        return real(*args)

    monkeypatch.setattr(roundtrip, "_receive", robbed)
    one = carried(tmp_path, "filesystem://")

    assert over.is_set()
    assert one.sentence == "the broker took a message and did not give it back within 0.4 s"
    assert "nothing else empties its queues" in one.remedy
