"""What a drill showed, as a table: what was done to the system, and what came of it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, and_, func, select

from cutwork import database, schema

from .audit import Audit

# A drill in which these did not happen tested nothing.
SITUATIONS = frozenset(
    {
        "429",
        "breaker closed",
        "breaker opened",
        "callback before the reply",
        "crash point hit",
        "database down during a callback",
        "duplicate",
        "forged token",
        "late after the end",
        "lease lost",
        "redelivered message",
        "result link dead",
        "second charge, counted",
        "uncertain settled by callback",
        "uncertain settled by hold",
        "uncertain settled by resubmit",
    }
)


@dataclass(frozen=True)
class Verdict:
    """``sometimes`` holds each of ``SITUATIONS`` with how often it was met."""

    seed: int
    faults: Mapping[str, int]
    sometimes: Mapping[str, int]
    jobs: Mapping[str, int]
    charges: int
    second_charges: int
    explained: int
    violations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "violations": list(self.violations)}


def verdict(
    engine: Engine,
    found: Audit,
    ledger: Mapping[str, Any],
    done: Counter[str],
    logs: Mapping[str, str],
    seed: int,
) -> Verdict:
    """Count faults in the sandbox's ledger and in what the drill did, the rest in SQL and logs."""
    faults = Counter(name for task in ledger["tasks"] for name in task["faults"])
    faults += Counter(one["reason"] for one in ledger["refused"])
    return Verdict(
        seed,
        dict(sorted((faults + done).items())),
        _sometimes(engine, found, ledger, done, logs),
        {state.value: found.states[state] for state in sorted(found.states)},
        found.charges,
        found.second_charges,
        found.explained,
        tuple(found.violations),
    )


def _sometimes(
    engine: Engine,
    found: Audit,
    ledger: Mapping[str, Any],
    done: Counter[str],
    logs: Mapping[str, str],
) -> dict[str, int]:
    events, tasks = found.events, ledger["tasks"]
    heard_first = [task for task in tasks if "reply_after_callback" in task["faults"]]
    everything = "\n".join(logs.values())
    return {
        "callback before the reply": sum(map(_was_heard, heard_first)),
        "duplicate": events["duplicate"],
        "late after the end": events["late"],
        "uncertain settled by callback": _proved_by_callback(engine),
        "uncertain settled by resubmit": events["resubmitted"],
        "uncertain settled by hold": _events_like(engine, "held", "uncertain:%"),
        "second charge, counted": found.explained,
        "429": events["throttled"],
        "breaker opened": events["tripped"] + events["refused"],
        "breaker closed": events["closed"],
        "lease lost": _events_like(engine, "uncertain", "the worker's lease ran out%"),
        "redelivered message": len(re.findall(r" is not ours| not ours ", everything)),
        "result link dead": events["link_dead"],
        "crash point hit": sum(
            times for what, times in done.items() if what.startswith("crashed at ")
        ),
        "forged token": done["forged token"],
        "database down during a callback": everything.count("callback not stored"),
    }


def _was_heard(task: Mapping[str, Any]) -> bool:
    return any(200 <= one["status"] < 300 for one in task["callbacks"])


def _proved_by_callback(engine: Engine) -> int:
    event, attempt = schema.event.c, schema.attempt.c
    same = and_(event.job_id == attempt.job_id, event.attempt == attempt.number)
    both = schema.event.join(schema.attempt, same)
    proved = and_(event.kind == "uncertain", attempt.decided_by == "callback")
    return _count(engine, select(func.count()).select_from(both).where(proved))


def _events_like(engine: Engine, kind: str, detail: str) -> int:
    event = schema.event.c
    return _count(engine, select(func.count()).where(event.kind == kind, event.detail.like(detail)))


def _count(engine: Engine, query: Any) -> int:
    with database.read_only(engine).connect() as tx:
        return int(tx.execute(query).scalar_one())
