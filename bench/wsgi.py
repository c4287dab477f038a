"""What the webhook is measured against, as WSGI callables for the same server.

``hello`` does nothing. ``together`` commits callbacks as they come together, with two statements
written by hand for the whole batch; ``alone`` commits each. Both believe any path and any body.
"""

import json
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from threading import Lock
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from cutwork import database

from .batch import BY_HAND, DONE, ByHand

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_BODY = b"200 OK\n"
_HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(_BODY)))]


class _Durable:
    """``commit(job_id)`` for each callback; the engine is made in the process that serves."""

    def __init__(self, way: Callable[[Engine], Callable[[UUID], None]]) -> None:
        self._way, self._making = way, Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            return hello(environ, start_response)
        length = int(environ["CONTENT_LENGTH"])
        said = json.loads(environ["wsgi.input"].read(length))
        if said["data"]["state"] == 1:
            self._ready(UUID(environ["PATH_INFO"].rpartition("/")[2]))
        return hello(environ, start_response)

    def _ready(self, job_id: UUID) -> None:
        with self._making:
            commit = self._commit
        commit(job_id)

    @cached_property
    def _commit(self) -> Callable[[UUID], None]:
        return self._way(database.engine(os.environ["BENCH_DATABASE"], pool_size=16))


def _each(engine: Engine) -> Callable[[UUID], None]:
    def commit(job_id: UUID) -> None:
        rows = json.dumps([{"id": str(job_id), "report": DONE.to_json()}])
        with engine.begin() as tx:
            for statement in BY_HAND:
                tx.execute(statement, {"rows": rows})

    return commit


def hello(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", _HEADERS)
    return [_BODY]


together = _Durable(ByHand)
alone = _Durable(_each)
