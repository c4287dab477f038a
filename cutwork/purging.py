"""What is kept for how long: source pictures, results, and whole jobs, each by a policy of its own.

Files go first, then what the rows say of them. If it is ended in between, rows are left whose
pictures are gone; running it again finishes. Several may run at once: a file that is gone already
is no error, and each row is deleted or noted once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row

from cutwork import database, ledger, turns
from cutwork.errors import InvalidInput, JobNotFound, OwnerBusy, StorageError, WrongState
from cutwork.settings import Settings, current
from cutwork.storage import Storage

_BATCH = 200
# So many files in a row that cannot be deleted: the storage is away, and each may take a minute.
_DEAD = 5
# A job that was finished in this very moment is finished.
_AT_ONCE = -1.0


@dataclass(frozen=True)
class Policy:
    """Seconds after a job is finished; None keeps for ever."""

    inputs: float | None = None
    results: float | None = None
    jobs: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """What the settings say, where 0 keeps for ever."""
        return cls(
            settings.keep_inputs or None, settings.keep_results or None, settings.keep_jobs or None
        )

    @property
    def ages(self) -> dict[str, float]:
        """The spans that are set; whole jobs first, for their files are then not looked at."""
        spans = {"jobs": self.jobs, "results": self.results, "inputs": self.inputs}
        return {name: age for name, age in spans.items() if age is not None}


@dataclass(frozen=True)
class Purged:
    """What was deleted, or would be; ``size`` in bytes as the rows say.

    ``kept`` are jobs whose pictures could not be deleted, ``fault`` says why the first could not;
    ``dead``: it stopped, because the storage is away.
    """

    jobs: int = 0
    files: int = 0
    size: int = 0
    kept: int = 0
    fault: str = ""
    dead: bool = False

    def plus(self, other: "Purged") -> "Purged":
        return Purged(
            self.jobs + other.jobs,
            self.files + other.files,
            self.size + other.size,
            self.kept + other.kept,
            self.fault or other.fault,
            self.dead or other.dead,
        )


@dataclass
class Broom:
    """Sweeps by a policy, again and again; where it found nothing to do it does not look again.

    ``rest`` is called between two batches, so that others have their turn.
    """

    engine: Engine
    storage: Storage
    batch: int = _BATCH
    rest: Callable[[], object] | None = None
    _beyond: dict[str, Row[Any]] = field(default_factory=dict)

    def sweep(self, policy: Policy, *, dry_run: bool = False) -> dict[str, Purged]:
        """What became of ``jobs``, ``results`` and ``inputs``, as far as the policy names them."""
        return {name: self._sweep(name, policy, dry_run) for name in policy.ages}

    def _sweep(self, name: str, policy: Policy, dry_run: bool) -> Purged:
        files = {"results": "result", "inputs": "input"}.get(name, "")
        younger = policy.jobs if files else None  # those go with their rows
        total, last = Purged(), self._beyond.get(name)
        while not total.dead:
            with database.read_only(self.engine).connect() as tx:
                batch = ledger.purgeable(
                    tx, policy.ages[name], self.batch, files=files, younger=younger, beyond=last
                )
            if not batch:
                break
            last = batch[-1]
            done = _planned(batch, files) if dry_run else self._delete(batch, files)
            total = total.plus(done)
            if self.rest is not None:
                self.rest()
        if last is not None and not (dry_run or total.dead):
            self._beyond[name] = last
        return total

    def _delete(self, batch: list[Row[Any]], files: str) -> Purged:
        gone, done = _delete_files(self.storage, batch, files)
        if not gone:
            return done
        if files:
            count = database.transact(self.engine, ledger.forget, gone, files)
        else:
            count = database.transact(self.engine, ledger.purge, gone)
        return done.plus(Purged(jobs=count))


def purge(engine: Engine, storage: Storage, older_than: float, *, dry_run: bool) -> Purged:
    """Delete every succeeded, failed or cancelled job that finished ``older_than`` seconds ago.

    A job whose pictures cannot be deleted is kept and counted, and does not stand in the way of
    the others.
    """
    broom = Broom(engine, storage, _BATCH)
    return broom.sweep(Policy(jobs=older_than), dry_run=dry_run)["jobs"]


def erase_owner(
    engine: Engine,
    owner: str,
    *,
    storage: Storage | None = None,
    cancel: bool = False,
    dry_run: bool = False,
) -> Purged:
    """Delete all jobs of an owner, with attempts, events and pictures, and the owner's weight.

    With ``cancel`` unfinished and held jobs are cancelled first; what the provider has of them may
    still be charged. Whoever runs it again finds nothing, or finishes what was cut short. The
    storage is by default the environment's.

    Raises:
        InvalidInput: the owner has no name: those are the jobs of nobody in particular.
        OwnerBusy: jobs are unfinished or held, and ``cancel`` was not said; nothing is deleted.
    """
    if not owner:
        raise InvalidInput("owner", owner, "must be named", "jobs without an owner go by their age")
    storage = storage or Storage.at(current().storage)
    with database.read_only(engine).connect() as tx:
        going = ledger.unfinished_of(tx, owner)
    if going and not cancel:
        raise OwnerBusy(owner, going)
    if dry_run:
        found = [_planned(batch, "") for batch in _of_owner(engine, owner)]
        return reduce(Purged.plus, found, Purged(jobs=len(going)))
    _cancel(engine, going)
    total = Purged()
    for batch in _of_owner(engine, owner):
        gone, done = _delete_files(storage, batch, "", orphans=True)
        count = database.transact(engine, ledger.purge, gone) if gone else 0
        total = total.plus(done).plus(Purged(jobs=count))
        if total.dead:
            return total
    database.transact(engine, turns.set_weight, owner, 1.0)
    return total


def _cancel(engine: Engine, job_ids: list[UUID]) -> None:
    for job_id in job_ids:
        try:
            database.transact(engine, ledger.cancel, job_id)
        except (JobNotFound, WrongState):  # it ended by itself meanwhile
            continue


def _of_owner(engine: Engine, owner: str) -> Iterator[list[Row[Any]]]:
    last: Row[Any] | None = None
    while True:
        with database.read_only(engine).connect() as tx:
            batch = ledger.purgeable(tx, _AT_ONCE, _BATCH, owner=owner, beyond=last)
        if not batch:
            return
        last = batch[-1]
        yield batch


def _planned(batch: list[Row[Any]], files: str) -> Purged:
    found = [_files(row, files) for row in batch]
    with_files = [one for one in found if one or not files]
    sizes = [size for one in found for _, size in one]
    return Purged(len(with_files), len(sizes), sum(sizes))


def _delete_files(
    storage: Storage, batch: list[Row[Any]], files: str, *, orphans: bool = False
) -> tuple[list[UUID], Purged]:
    """The jobs whose files are gone (with ``files`` only those that had some), and the sums.

    ``orphans`` also takes what a worker that died may have left of a job's results.
    """
    gone: list[UUID] = []
    done, faults = Purged(), 0
    for row in batch:
        found = _files(row, files)
        try:
            for uri, _ in found:
                storage.delete(uri)
            if orphans:
                storage.clear(f"results/{row.id}")
        except StorageError as error:
            faults += storage.holds(error.uri)
            done = done.plus(Purged(kept=1, fault=str(error), dead=faults == _DEAD))
            if done.dead:
                break
        else:
            faults = 0
            done = done.plus(Purged(files=len(found), size=sum(size for _, size in found)))
            if found or not files:
                gone.append(row.id)
    return gone, done


def _files(row: Row[Any], files: str) -> list[tuple[str, int]]:
    """(URI, bytes) of the source picture, when it is ours, and of the results, if still there."""
    facts = []
    if files != "input" and row.result_purged_at is None:
        facts += [*((row.result or {}).get("files") or {}).values()]
    if files != "result" and row.input_purged_at is None:
        facts += [fact for fact in (row.request.get("image_file"),) if fact]
    return [(fact["uri"], fact.get("size") or 0) for fact in facts]
