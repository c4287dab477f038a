"""Many jobs at once: read and locked together, changed by the ledger's verbs, written together.

Outside of a page each verb reads and writes for itself. Inside of one (``ledger.together``) the
same verbs decide on lines in memory, each seeing what those before it decided, and the page writes
once for every kind of change. What was locked when it was read cannot have gone on since, and the
page checks that.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Insert,
    Result,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    insert,
    select,
    update,
)

from cutwork import clock, database, recordset, wake
from cutwork.schema import attempt, job

# What the verbs look at. The rest is for those who read a job, and costs time to fetch.
_COLD = (
    "idempotency_key",
    "request_digest",
    "meta",
    "result",
    "owner",
    "priority",
    "turn",
    "created_at",
    "finished_at",
    "input_purged_at",
    "result_purged_at",
)
_COLD_OF_ATTEMPTS = ("fence", "decided_by", "seconds")
JOBS: Select[Any] = select(
    *(column for column in job.c if column.name not in _COLD),
    clock.now().label("at"),
)
ATTEMPTS: Select[Any] = select(
    *(column for column in attempt.c if column.name not in _COLD_OF_ATTEMPTS),
    clock.now().label("at"),
)
INTENTS = insert(attempt).values(intended_at=clock.now())
# What differs from row to row. In a page of one kind of news all else is mostly alike, and is then
# sent once: with any choice of columns there would be too many statements to keep.
_OWN = frozenset(
    (
        "fence",
        "attempt",
        "result_attempt",
        "task_id",
        "provider_state",
        "accepted_at",
        "callbacks",
        "checks",
        "seconds",
        "detail",
        "error",
        "report",
        "result",
        "trail",
    )
)
# What finds a row again, as it was read.
_KEYS = {job: ("id", "state", "fence"), attempt: ("job_id", "number")}

Key = tuple[Any, ...]
Changes = dict[str, Any]


@dataclass(frozen=True)
class After:
    """A moment so many seconds after it is written, by the database's clock."""

    seconds: float | ColumnElement[float]


AT_ONCE = After(0.0)


class Shape:
    """Which columns a change sets, and which of them to a moment after it is written.

    There is one object for each combination, so that they are told apart at no cost.
    """

    def __init__(self, names: tuple[str, ...], later: tuple[str, ...]) -> None:
        self.names, self.later = names, later
        self.alike = tuple(name for name in names if name not in _OWN)

    @property
    def is_ready(self) -> bool:
        """Whether a result can be stored now: that is called out at once."""
        return "result_expires_at" in self.names


class Line:
    """A locked row as it was read or decided: its columns, and ``at``, when it was read."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__ = values

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def but(self, values: Changes) -> "Line":
        """The line with these changes. A verb that has the old one goes on seeing the old one."""
        changed = self.__dict__ | values
        for name, value in values.items():
            if isinstance(value, After):
                seconds: Any = value.seconds  # a number: a page has its sums done beforehand
                changed[name] = self.at + timedelta(seconds=seconds)
        return Line(changed)


class Record:
    """A locked row, and all that verbs have changed in it since it was read."""

    __slots__ = ("_line", "_unseen", "changes", "key")

    def __init__(self, key: Key, line: Line) -> None:
        self.key = key
        self.changes: Changes = {}
        self._line = line
        self._unseen: Changes = {}

    @property
    def line(self) -> Line:
        """What the next verb sees. Mostly there is none, so it is made when it is asked for."""
        if self._unseen:
            self._line, self._unseen = self._line.but(self._unseen), {}
        return self._line

    def change(self, values: Changes) -> None:
        self.changes = self.changes | values if self.changes else values
        self._unseen = self._unseen | values if self._unseen else values


def _lines(result: Result[Any]) -> Iterator[Line]:
    names = tuple(result.keys())
    for row in result.all():
        yield Line(dict(zip(names, row, strict=True)))


class OvertakenError(RuntimeError):
    """A locked row was changed all the same; nothing of the page is written."""


@dataclass
class Page:
    """The lines of some jobs and of all their attempts, and what has changed in them.

    ``at_end`` is called before the changes are written.
    """

    tx: Connection
    at_end: list[Callable[[], None]] = field(default_factory=list)
    # By the numbers of the ids: an id itself is hashed and compared in Python.
    _jobs: dict[int, Record] = field(default_factory=dict)
    _attempts: dict[int, dict[int, Record]] = field(default_factory=dict)
    _new: list[dict[str, Any]] = field(default_factory=list)
    _answers: dict[Hashable, Any] = field(default_factory=dict)

    def read(self, job_ids: Iterable[UUID]) -> None:
        """Lock the jobs, in the order of their ids, and read them and their attempts."""
        wanted, dialect = sorted(set(job_ids)), self.tx.dialect.name
        tried = []
        for line in _lines(self.tx.execute(_locked_jobs(dialect), {"those": wanted})):
            self._jobs[line.id.int] = Record((line.id, line.state, line.fence), line)
            self._attempts[line.id.int] = {}
            if line.attempt:
                tried.append(line.id)
        if tried:
            for line in _lines(self.tx.execute(_their_attempts(dialect), {"those": tried})):
                record = Record((line.job_id, line.number), line)
                self._attempts[line.job_id.int][line.number] = record

    def job(self, job_id: UUID) -> Line | None:
        record = self._jobs.get(job_id.int)
        return record.line if record else None

    def attempt(self, job_id: UUID, number: int) -> Line | None:
        record = self._attempts.get(job_id.int, {}).get(number)
        return record.line if record else None

    def attempts(self, job_id: UUID, but: int | None) -> list[Line]:
        made = self._attempts.get(job_id.int, {})
        return [record.line for number, record in made.items() if number != but]

    def once(self, question: Hashable, ask: Callable[[], Any]) -> Any:
        """The answer to what the whole page asks once."""
        if question not in self._answers:
            self._answers[question] = ask()
        return self._answers[question]

    def add_attempt(self, values: Changes) -> None:
        self._new.append(values)

    def change_job(self, line: Line, values: Changes) -> bool:
        """Whether the line is still as the verb saw it."""
        record = self._jobs[line.id.int]
        present = record.line
        if (present.state, present.fence) != (line.state, line.fence):
            return False
        record.change(values)
        return True

    def change_attempt(self, line: Line, values: Changes) -> None:
        self._attempts[line.job_id.int][line.number].change(values)

    def write(self) -> None:
        """Send what has changed, one statement for each kind of change.

        Raises:
            OvertakenError: a job or an attempt is not as it was read.
        """
        for last in self.at_end:
            last()
        if self._new and self.tx.dialect.name == "postgresql":
            columns = {name: [row[name] for row in self._new] for name in self._new[0]}
            self.tx.execute(_intents(tuple(columns)), recordset.dump(columns))
        elif self._new:
            self.tx.execute(INTENTS, self._new)
        attempts = (record for made in self._attempts.values() for record in made.values())
        for table, records in ((attempt, attempts), (job, self._jobs.values())):
            alike: dict[Shape, list[tuple[Key, Changes]]] = defaultdict(list)
            for record in records:
                if record.changes:
                    alike[_shape_of(record.changes)].append((record.key, record.changes))
            for shape, those in alike.items():
                if _send(self.tx, table, shape, those) != len(those):
                    raise OvertakenError(f"a row of {table.name} went on though it was locked")


_open: ContextVar[Page | None] = ContextVar("_open", default=None)


def open_on(tx: Connection) -> Page | None:
    """The page that is open on this connection."""
    page = _open.get()
    return page if page is not None and page.tx is tx else None


@contextmanager
def page(tx: Connection, job_ids: Iterable[UUID]) -> Iterator[None]:
    """A page of these jobs; it is written at the end, unless the block raises."""
    made = Page(tx)
    made.read(job_ids)
    before = _open.set(made)
    try:
        yield
        made.write()
    finally:
        _open.reset(before)


def change(tx: Connection, table: Table, key: Key, values: Changes) -> bool:
    """Change one row outside of a page; False when it is not as it was read."""
    shape = _shape_of(values)
    given = _given(table, shape, key, values)
    sums = {name: value for name, value in given.items() if isinstance(value, ColumnElement)}
    made = _build(table, shape, sums) if sums else _update(table, shape)
    if tx.dialect.name == "postgresql" and shape.is_ready:
        made = made.returning(wake.call())
    bound = {name: value for name, value in given.items() if name not in sums}
    return tx.execute(made, bound).rowcount == 1


@cache  # here and below: building a statement costs more than sending it
def _locked_jobs(dialect: str) -> Select[Any]:
    mine = JOBS.where(database.among(dialect, job.c.id))
    return mine.order_by(job.c.id).with_for_update()


@cache
def _their_attempts(dialect: str) -> Select[Any]:
    return ATTEMPTS.where(database.among(dialect, attempt.c.job_id))


def _shape_of(values: Changes) -> Shape:
    return _shape(tuple(values), tuple(map(type, values.values())))


@cache
def _shape(names: tuple[str, ...], types: tuple[type, ...]) -> Shape:
    later = tuple(name for name, kind in zip(names, types, strict=True) if kind is After)
    return _shared_shape(names, later)


@cache  # once more: the same columns come with other types, such as None
def _shared_shape(names: tuple[str, ...], later: tuple[str, ...]) -> Shape:
    return Shape(names, later)


def _given(table: Table, shape: Shape, key: Key, values: Changes) -> Changes:
    """The parameters for one row."""
    was = {f"was_{name}": value for name, value in zip(_KEYS[table], key, strict=True)}
    new = {f"new_{name}": values[name] for name in shape.names}
    return {**was, **new, **{f"new_{name}": values[name].seconds for name in shape.later}}


def _send(
    tx: Connection, table: Table, shape: Shape, changes: Sequence[tuple[Key, Changes]]
) -> int:
    if tx.dialect.name != "postgresql":
        rows = [_given(table, shape, key, values) for key, values in changes]
        return tx.execute(_update(table, shape), rows).rowcount
    new = {name: [values[name] for _, values in changes] for name in shape.names}
    new |= {name: [moment.seconds for moment in new[name]] for name in shape.later}
    alike = all(new[name].count(new[name][0]) == len(changes) for name in shape.alike)
    shared = {f"new_{name}": new.pop(name)[0] for name in shape.alike} if alike else {}
    keys = zip(_KEYS[table], zip(*(key for key, _ in changes), strict=True), strict=True)
    own: dict[str, Sequence[Any]] = {f"was_{name}": column for name, column in keys}
    identity = f"was_{_KEYS[table][0]}"
    own[identity] = those = [one.hex for one in own[identity]]
    own |= {f"new_{name}": column for name, column in new.items()}
    made = _update_of_rows(table, shape, together=alike)
    return tx.execute(made, {**recordset.dump(own), **shared, "those": those}).rowcount


@cache
def _update(table: Table, shape: Shape) -> Update:
    """For one row, or for many with executemany."""
    return _build(table, shape, {})


def _build(table: Table, shape: Shape, sums: Mapping[str, ColumnElement[Any]]) -> Update:
    """With a parameter for each value that is not a sum for the database to do."""
    given = {name: bindparam(name, type_=type_) for name, type_ in _typed(table, shape)}
    return _set(table, shape, {**given, **sums})


@cache
def _update_of_rows(table: Table, shape: Shape, together: bool) -> Update:
    """For any number of rows, each column a JSON parameter.

    ``together`` has what is not a row's own as parameters of the statement.
    """
    once = {f"new_{name}" for name in shape.alike} if together else set()
    own = [(name, type_) for name, type_ in _typed(table, shape) if name not in once]
    given = dict(recordset.of(own).c)
    for name, type_ in _typed(table, shape):
        given.setdefault(name, bindparam(name, type_=type_))
    # Also by a list of ids: to find rows by those of the JSON, a server that takes the table for a
    # small one goes through all of it.
    listed = database.among("postgresql", table.c[_KEYS[table][0]])
    changes = _set(table, shape, given).where(listed)
    return changes.returning(wake.call()) if shape.is_ready else changes


@cache
def _intents(names: tuple[str, ...]) -> Insert:
    given = recordset.of((name, attempt.c[name].type) for name in names)
    return insert(attempt).from_select(
        [*names, "intended_at"], select(*(given.c[name] for name in names), clock.now())
    )


def _typed(table: Table, shape: Shape) -> Iterator[tuple[str, Any]]:
    for name in _KEYS[table]:
        yield f"was_{name}", table.c[name].type
    for name in shape.names:
        yield f"new_{name}", Float() if name in shape.later else table.c[name].type


def _set(table: Table, shape: Shape, given: Any) -> Update:
    same = and_(*(table.c[name] == given[f"was_{name}"] for name in _KEYS[table]))
    values = {name: given[f"new_{name}"] for name in shape.names}
    values |= {name: clock.after(values[name]) for name in shape.later}
    return update(table).where(same).values(values)
