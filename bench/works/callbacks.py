"""Callbacks over HTTP, durable before they are answered: granian, 128 connections that are kept.

The ceiling is the same server with a callable that checks nothing and knows no states, and commits
what came together with two statements. Forged addresses are refused without SQL.
"""

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Engine, text

from bench import filling, load
from bench.measuring import Figures, Goal, Role, Way, Work
from bench.ours import SECRET, Ours
from bench.place import Place
from bench.processes import HERE, Crew, free_port
from bench.stub import finished
from cutwork import callbacks
from cutwork.settings import Settings

CONNECTIONS = 128
_SETTINGS = Settings(
    api_tokens=("a-key",), callback_secrets=(SECRET,), public_url="http://hooks.example"
)
_BODY = json.dumps({"status": 200, "data": finished("http://results.example", "task")})
_TOGETHER, _NOTHING = "two statements for a batch", "a callable that does nothing"
_GRANIAN = ["granian", "--interface=wsgi", "--workers=1", "--blocking-threads=64", "--http=1"]
_GRANIAN += ["--no-ws", "--log-level=error", f"--host={HERE}"]


def works(place: Place) -> Iterator[Work]:
    """Rates are requests a second, ``p99_ms`` how long one of a hundred waits at least."""
    count = 4000 if place.quick else 20_000
    slow = Way("a commit for each", Role.HAND, partial(_durable, place, count, _alone, _plain))
    yield Work(
        f"durable callbacks, {CONNECTIONS} connections",
        (
            Way("ours", Role.OURS, partial(_durable, place, count, _ours, _signed)),
            Way(_TOGETHER, Role.CEILING, partial(_durable, place, count, _together, _plain)),
            *(() if place.quick else (slow,)),
        ),
        (Goal("rate", _TOGETHER, at_least=0.8), Goal("p99_ms", at_most=30.0)),
    )
    forged = [f"/callbacks/{secrets.token_urlsafe(45)}" for _ in range(3 * count)]
    yield Work(
        f"forged callbacks, {CONNECTIONS} connections",
        (
            Way("ours", Role.OURS, partial(_refused, place, forged)),
            Way(_NOTHING, Role.CEILING, partial(_greeted, forged)),
        ),
        (Goal("rate", at_least=20_000.0), Goal("rate", _NOTHING, at_least=0.6)),
    )


def _durable(
    place: Place,
    count: int,
    serve: Callable[[Crew, str, str], int],
    paths: Callable[[Sequence[UUID]], list[str]],
) -> Figures:
    engine = place.fresh_engine("_callbacks")
    ids = filling.waiting(engine, count)
    filling.settle(engine)
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        url = engine.url.render_as_string(hide_password=False)
        port = serve(crew, url, home)
        crew.wait_ready()
        outcome = load.run(load.Task(port, CONNECTIONS, paths(ids), _BODY))
    _check(engine, outcome, count)
    engine.dispose()
    return _figures(outcome)


def _ours(crew: Crew, url: str, home: str) -> int:
    us = Ours.at(url, home, "http://provider.example")
    us.start_webhook(crew)
    return us.port


def _together(crew: Crew, url: str, _home: str) -> int:
    return _granian(crew, "together", url)


def _alone(crew: Crew, url: str, _home: str) -> int:
    return _granian(crew, "alone", url)


def _granian(crew: Crew, name: str, url: str = "") -> int:
    port = free_port()
    words = [*_GRANIAN, f"--port={port}", f"bench.wsgi:{name}"]
    crew.start(name, words, {"BENCH_DATABASE": url}, port=port)
    return port


def _signed(ids: Sequence[UUID]) -> list[str]:
    now = time.time()
    return [urlsplit(callbacks.url(_SETTINGS, one, 1, now=now) or "").path for one in ids]


def _plain(ids: Sequence[UUID]) -> list[str]:
    return [f"/callbacks/{one}" for one in ids]


def _check(engine: Engine, outcome: load.Outcome, count: int) -> None:
    with engine.connect() as tx:
        done = tx.scalar(text("SELECT count(*) FROM cutwork_job WHERE state = 'storing'"))
    if outcome.statuses != {"200": count} or done != count:
        raise RuntimeError(f"{outcome.statuses} for {count} callbacks, and {done} are stored")


def _refused(place: Place, paths: Sequence[str]) -> Figures:
    url = place.fresh_database("_callbacks")
    with tempfile.TemporaryDirectory() as home, Crew() as crew:
        port = _ours(crew, url, home)
        crew.wait_ready()
        outcome = load.run(load.Task(port, CONNECTIONS, paths, _BODY))
    if outcome.statuses != {"404": len(paths)}:
        raise RuntimeError(f"forged callbacks were answered {outcome.statuses}")
    return _figures(outcome)


def _greeted(paths: Sequence[str]) -> Figures:
    with Crew() as crew:
        port = _granian(crew, "hello")
        crew.wait_ready()
        return _figures(load.run(load.Task(port, CONNECTIONS, paths, _BODY)))


def _figures(outcome: load.Outcome) -> Figures:
    return {"rate": outcome.rate, "p50_ms": outcome.p50 * 1000, "p99_ms": outcome.p99 * 1000}
