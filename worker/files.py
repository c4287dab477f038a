"""kombu's transport of files, with messages that appear whole and waits that a stop ends.

kombu makes a message's file under its name and then fills it. A worker that looks in between takes
an empty file, and the message is lost: one in some hundreds on a busy machine, and each costs its
job the time of a permit.
"""

import os
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    # kombu's own two classes disagree about the name of the message.
    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]
        """Files are taken in the order of their names, and only if they end in ``.msg``."""
        name = f"{round(monotonic() * 1000)}_{uuid4()}.{queue}.msg"
        whole = Path(self.data_folder_out) / name
        half = whole.with_suffix(".part")
        try:
            half.write_text(dumps(message), encoding="utf-8")  # type: ignore[no-untyped-call]
            os.replace(half, whole)
        except OSError as error:
            raise ChannelError(f"Cannot add {whole}") from error


class Transport(filesystem.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> Any:
        """Wait for a message; raises TimeoutError after ``timeout``, and when the worker stops.

        Celery waits for two seconds at a time and looks for a request to stop only in between.
        """
        # Here, because a reconciler needs no worker, and is smaller without.
        from celery.worker import state

        deadline = None if timeout is None else monotonic() + timeout
        while True:
            try:
                return super().drain_events(connection, timeout=0)  # type: ignore[no-untyped-call]
            except TimeoutError:
                if state.should_stop is not None or (deadline and monotonic() >= deadline):
                    raise
            sleep(self.polling_interval)


def use() -> None:
    """Let ``filesystem://`` mean this one in this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:{Transport.__name__}"
