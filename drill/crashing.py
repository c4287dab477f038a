"""T3: ``python -m cutwork.drill.crashing POINT[:N] worker …`` is a role that kills itself there.

The role is the real one, as ``cutwork worker …`` runs it; the hooks come from outside. When the
point is reached for the Nth time, whichever of its processes that is, it ends by SIGKILL with all
of its process group: the host died. After ``--child`` only that process ends: the pool lost one.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

from cutwork import database, ledger, wire
from cutwork.cli import main as command
from cutwork.provider import Provider
from cutwork.storage import Storage

from .points import POINTS

# The names of transactions, by the verbs that they run.
_VERBS = {
    ledger.claim: "claim",
    ledger.claim_check: "claim-check",
    ledger.claim_store: "claim-store",
    ledger.stored: "record-store",
    ledger.not_stored: "record-store",
}
_PASS, _DIE = b".", b"!"
_MOST_TIMES = 4096  # what any pipe holds
_asking: ContextVar[str] = ContextVar("_asking", default="")


class Trap:
    """Counts how often its point is reached; the last time nothing comes after.

    The count is a pipe with a byte for each time, so that processes forked later share it without
    a lock that one of them could take to its grave.
    """

    def __init__(self, point: str, times: int = 1, *, child: bool = False) -> None:
        self.point = point
        self._everybody = not child and os.getpgrp() == os.getpid()
        self._left, end = os.pipe()
        os.write(end, _PASS * (times - 1) + _DIE)
        os.close(end)

    def reached(self, point: str) -> None:
        if point == self.point and os.read(self._left, 1) == _DIE:
            os.write(2, f"drill: crashed at {point}\n".encode())
            if self._everybody:  # pool processes and servers' parents go too: the host died
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


def install(trap: Trap) -> None:
    """Put the trap into this process."""
    role = POINTS[trap.point]
    _hook_transactions(trap)
    _hook_exchanges(trap)
    around(Storage, "put", trap, "put")
    if role == "webhook":
        _hook_inbox(trap)
    else:
        _hook_worker(trap)


def around(owner: Any, name: str, trap: Trap, what: str) -> None:
    """Let a call be reached before and after."""
    real = getattr(owner, name)

    @wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        trap.reached(f"{what}:before")
        asking = _asking.set(what)
        try:
            return real(*args, **kwargs)
        finally:
            _asking.reset(asking)
            trap.reached(f"{what}:after")

    setattr(owner, name, call)


def _hook_transactions(trap: Trap) -> None:
    real = database.transact

    def transact(engine: Any, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return _watched(trap, verb, partial(real, engine), *args, **kwargs)

    database.transact = transact


def _watched(
    trap: Trap,
    verb: Callable[..., Any],
    transact: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Run a verb as a transaction, alone or in a group, with a point on each side of its commit."""
    name = _name(verb)

    def run(tx: Any, *args: Any, **kwargs: Any) -> Any:
        made = verb(tx, *args, **kwargs)
        if _is_something(name, made):
            trap.reached(f"{name}:before-commit")
        return made

    made = transact(run, *args, **kwargs)
    if _is_something(name, made):
        trap.reached(f"{name}:after-commit")
    return made


def _name(verb: Callable[..., Any]) -> str:
    inner = verb.func if isinstance(verb, partial) else verb
    module, name = inner.__module__, getattr(inner, "__name__", "")
    if name.startswith("_release"):
        return "release"
    if name == "record":
        return "record-check" if module.endswith("checking") else "record"
    return _VERBS.get(inner, "")


def _is_something(name: str, made: Any) -> bool:
    """A claim of nothing and a look that releases nothing are no places to die."""
    if name == "release":
        released = made[0] if isinstance(made, tuple) else made
        return any(released.values())
    return made is not None or not name.startswith("claim")


def _hook_exchanges(trap: Trap) -> None:
    around(Provider, "submit", trap, "post")
    around(Provider, "query", trap, "query")
    real = wire._Socket.recv_into

    def recv_into(self: Any, *args: Any, **kwargs: Any) -> int:
        trap.reached(f"{_asking.get()}:sent")
        return real(self, *args, **kwargs)

    wire._Socket.recv_into = recv_into  # type: ignore[method-assign]


def _hook_worker(trap: Trap) -> None:
    from cutwork.worker import storing
    from cutwork.worker.group import Group
    from cutwork.worker.publishing import Publisher

    real = Group.run

    def run(self: Any, job_id: Any, verb: Any, *args: Any, **kwargs: Any) -> Any:
        return _watched(trap, verb, partial(real, self, job_id), *args, **kwargs)

    Group.run = run
    around(storing, "fetch", trap, "fetch")
    around(Publisher, "__call__", trap, "publish")


def _hook_inbox(trap: Trap) -> None:
    from cutwork.webhook.inbox import Inbox

    complete, hear, write = Inbox._complete, Inbox._hear, Inbox._write

    def completed(self: Any, line: Any, batch: Any) -> Any:
        trap.reached("hear:before-commit")  # the statement commits by itself
        _watch_answers(trap, batch)
        return complete(self, line, batch)

    def heard(self: Any, batch: Any) -> None:
        _watch_answers(trap, batch)
        hear(self, batch)

    def written(self: Any, tx: Any, batch: Any) -> Any:
        heard = write(self, tx, batch)
        trap.reached("hear:before-commit")
        return heard

    Inbox._complete, Inbox._hear, Inbox._write = completed, heard, written


def _watch_answers(trap: Trap, batch: Any) -> None:
    for hearing in batch:
        hearing.answer.tell = partial(_answer, trap, hearing.answer.tell)


def _answer(trap: Trap, answer: Callable[[Any], None], heard: Any) -> None:
    trap.reached("hear:after-commit")
    answer(heard)


def main() -> None:
    """Read the point, put in the hooks, and be the role."""
    words = sys.argv[1:]
    child = words[:1] == ["--child"]
    word, *role = words[1:] if child else words
    sys.argv = ["cutwork", *role]
    name, _, times = word.rpartition(":")
    point, count = (name, int(times)) if times.isdigit() else (word, 1)
    if point not in POINTS:
        raise SystemExit(f"there is no point {point}: use one of {', '.join(POINTS)}")
    if not 1 <= count <= _MOST_TIMES:
        raise SystemExit(f"the times must be from 1 to {_MOST_TIMES}, got {count}")
    install(Trap(point, count, child=child))
    command()


if __name__ == "__main__":
    main()
