"""The step that all peers do: one POST to the stub, with a Session for each thread."""

import os
import threading
from collections.abc import Callable, Sequence

import requests

from bench.ours import source
from bench.stub import Stub

Put = Callable[[Sequence[int]], None]

THREADS = 200
_kept = threading.local()


def environ(stub: Stub, broker: str = "", database: str = "") -> dict[str, str]:
    """What the peers' programs are told."""
    return {"BENCH_STUB": stub.url, "BENCH_BROKER": broker, "BENCH_DATABASE": database}


def form(number: int) -> dict[str, str]:
    """The fields of the provider's form that all send."""
    return {"type": "object", "output_type": "2", "format": "png", "image_url": source(number)}


def post(number: int, **more: str) -> str:
    """Create a task; its id."""
    if not hasattr(_kept, "session"):
        _kept.session = requests.Session()
        _kept.session.headers["Authorization"] = "Bearer a-key-of-the-bench"
    parts = {name: (None, value) for name, value in (form(number) | more).items()}
    reply = _kept.session.post(address(), files=parts, timeout=60)
    reply.raise_for_status()
    return str(reply.json()["data"]["task_id"])


def address() -> str:
    return f"{os.environ['BENCH_STUB']}/task/pic/segmentation"
