"""The embedded broker: a message is there whole, or not at all."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from queue import Empty

import pytest
from celery.worker import state
from kombu import Connection
from kombu.exceptions import ChannelError

from cutwork.settings import Settings
from cutwork.worker.configuration import configuration
from cutwork.worker.files import Transport
from tests.services.processes import Processes

MESSAGES = 1000
WRITES = """
import sys
from dataclasses import replace
from pathlib import Path
from kombu import Connection
from cutwork.settings import Settings
from cutwork.worker.configuration import configuration

conf = configuration(replace(Settings(), home=Path(sys.argv[1])))
options = conf["broker_transport_options"]
with Connection("filesystem://", transport_options=options) as broker:
    for number in range(int(sys.argv[2])):
        broker.default_channel._put("lane", {"number": number, "body": "x" * 500})
"""


def folder(home: Path) -> Connection:
    options = configuration(replace(Settings(), home=home))["broker_transport_options"]
    return Connection("filesystem://", transport_options=options)


@pytest.mark.no_cover
def test_a_reader_that_never_rests_takes_every_message_whole(
    tmp_path: Path, processes: Processes
) -> None:
    with folder(tmp_path) as broker:
        channel = broker.default_channel
        writer = processes.start(sys.executable, "-c", WRITES, str(tmp_path), str(MESSAGES))
        taken: list[int] = []
        deadline = time.monotonic() + 60
        while len(taken) < MESSAGES and time.monotonic() < deadline:
            try:
                taken.append(channel._get("lane")["number"])
            except Empty:
                assert writer.running or writer.returncode == 0, writer.tail()
    assert sorted(taken) == list(range(MESSAGES))


def test_it_is_what_a_worker_uses(tmp_path: Path) -> None:
    with folder(tmp_path) as broker:
        assert isinstance(broker.transport, Transport)


def test_a_folder_that_is_gone_takes_no_message(tmp_path: Path) -> None:
    with folder(tmp_path) as broker:
        channel = broker.default_channel
        (tmp_path / "broker" / "messages").rmdir()
        with pytest.raises(ChannelError, match="Cannot add"):
            channel._put("lane", {})


def test_a_wait_for_a_message_ends_with_its_timeout(tmp_path: Path) -> None:
    with folder(tmp_path) as broker, pytest.raises(TimeoutError):
        broker.drain_events(timeout=0.01)


def test_a_worker_that_is_asked_to_stop_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder(tmp_path) as broker:
        queue = broker.SimpleQueue("lane")
        queue.put("last")
        monkeypatch.setattr(state, "should_stop", 0)
        assert queue.get(timeout=3600).payload == "last"
        with pytest.raises(TimeoutError):
            broker.drain_events(timeout=3600)
        queue.close()
