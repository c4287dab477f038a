"""After a drill with real processes: do the rows, the provider's ledger and the storage agree?"""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, func, select

from cutwork import callbacks, database, jobs, schema
from cutwork.errors import StorageError
from cutwork.explain import explain
from cutwork.job import Job
from cutwork.settings import Settings
from cutwork.states import PAID, RESTING, Attempt, State
from cutwork.storage import Storage


@dataclass
class Audit:
    """``violations`` are sentences that begin with an invariant's number; there should be none."""

    violations: list[str] = field(default_factory=list)
    states: Counter[State] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    charges: int = 0
    second_charges: int = 0
    explained: int = 0

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.violations.append(what)


@dataclass(frozen=True)
class _Task:
    """A task as the provider's ledger has it; ``prints`` are the SHA-256 of its bare files."""

    attempt: int
    charges: int
    prints: Mapping[str, str]


def audit(
    engine: Engine,
    settings: Settings,
    ledger: Mapping[str, Any],
    owner: str,
    only: Collection[UUID] | None = None,
) -> Audit:
    """Compare ``owner``'s jobs, all or ``only`` these, with what the sandbox's ledger says."""
    found = Audit()
    with database.read_only(engine).connect() as tx:
        mine = select(schema.job.c.id).where(schema.job.c.owner == owner)
        ours = set(tx.execute(mine).scalars())
        chosen = [jobs.get(tx, job_id) for job_id in (ours if only is None else only)]
        for job in chosen:
            if job.state not in RESTING:
                told = explain(tx, job.id, settings)
                found.expect(False, f"L1: {job.id} is still {job.state}: {told.waits} {told.next}")
        kinds = select(schema.event.c.kind, func.count()).group_by(schema.event.c.kind)
        found.events.update({row[0]: row[1] for row in tx.execute(kinds)})
        doubts = select(schema.event.c.job_id, func.count()).where(
            schema.event.c.kind.in_(("uncertain", "provider_failed", "retried"))
        )
        by_job = tx.execute(doubts.group_by(schema.event.c.job_id))
        doubted: dict[UUID, int] = {row[0]: row[1] for row in by_job}
    tasks = _tasks_by_job(found, settings, ledger)
    storage = Storage.at(settings.storage)
    for job in chosen:
        found.states[job.state] += 1
        if job.state in (State.HELD, State.FAILED):
            found.expect(job.error is not None, f"L1: {job.id} is {job.state} without a reason")
        _check_money(found, job, tasks.get(job.id, []), doubted.get(job.id, 0), settings)
        if job.state is State.SUCCEEDED:
            _check_files(found, job, tasks.get(job.id, []), storage)
    strange = len(tasks.keys() - ours)
    found.expect(not strange, f"S3: {strange} jobs of the provider's are not ours")
    return found


def _tasks_by_job(
    found: Audit, settings: Settings, ledger: Mapping[str, Any]
) -> dict[UUID, list[_Task]]:
    """The tasks of each job; the callback's token says whose it is."""
    tasks: dict[UUID, list[_Task]] = {}
    for task in ledger["tasks"]:
        token = str(task["callback_url"]).rpartition("/")[2]
        claim = callbacks.verify(settings.callback_secrets, token, now=time.time())
        if claim is None:
            found.expect(False, f"S3: task {task['task_id']} has no attempt of ours")
            continue
        made = _Task(claim.attempt, task["charges"], task["prints"])
        tasks.setdefault(claim.job_id, []).append(made)
    return tasks


def _check_money(
    found: Audit, job: Job, tasks: list[_Task], doubts: int, settings: Settings
) -> None:
    numbers = [one.attempt for one in tasks]
    own = {one.number for one in job.attempts}
    found.expect(len(set(numbers)) == len(numbers), f"S3: two tasks of one attempt of {job.id}")
    found.expect(set(numbers) <= own, f"S2: {job.id} has a task without an attempt")
    charges = sum(one.charges for one in tasks)
    paid = sum(Attempt(one.state) in PAID for one in job.attempts)
    found.expect(charges <= paid, f"S3: {charges} charges of {job.id}, {paid} paid attempts")
    held = isinstance(job.meta, dict) and job.meta.get("policy") == "hold"
    most = 1 if held else settings.max_paid_attempts
    found.expect(charges <= most, f"S3: {job.id} was charged {charges} times")
    found.charges += charges
    if charges > 1:
        found.second_charges += charges - 1
        found.explained += min(charges - 1, doubts)
        found.expect(charges - 1 <= doubts, f"S3: a second charge of {job.id} is unexplained")


def _check_files(found: Audit, job: Job, tasks: list[_Task], storage: Storage) -> None:
    """S5: there, whole, and what the provider made of this very job."""
    for name, file in job.files.items():
        try:
            data = storage.get(file.uri)
        except StorageError:
            found.expect(False, f"S5: the {name} of {job.id} is not in storage")
            continue
        digest = sha256(data).hexdigest()
        whole = len(data) == file.size and digest == file.sha256
        found.expect(whole, f"S5: the {name} of {job.id} is not what its row says")
        own = any(one.prints.get(name) == digest for one in tasks)
        found.expect(own, f"S5: the {name} of {job.id} is another job's")
