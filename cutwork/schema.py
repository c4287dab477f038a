"""The tables. They live in the app's own database, so each name begins with ``cutwork_``.

``job`` is the truth about each picture, ``attempt`` explains every charge, ``gate`` paces each API
key, ``pace`` keeps how long the provider takes, ``owner`` who weighs more than others, ``event``
what was unusual, ``notice`` who is to be told of a job, ``subscriber`` who does not listen now,
``tally`` what was counted of purged jobs, and ``sleeper`` which reconciler sleeps. The migrations
build the same tables; a test compares.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql

from cutwork.clock import Time
from cutwork.states import State

# The migration that makes these tables; a test holds it equal to the newest one.
REVISION = "0001"
VERSION_TABLE = "cutwork_version"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Text compares byte by byte: MariaDB's default would take "Order-1" and "order-1" for one key.
_OPTIONS: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

_Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_Id = Uuid(native_uuid=False).with_variant(Uuid(), "postgresql")
_Serial = BigInteger().with_variant(Integer(), "sqlite")

job = Table(
    "cutwork_job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("due_at", Time, comment="when somebody must look, unless something happens first"),
    Column("lease", String(8), comment="message: named in the broker; worker: being worked on"),
    Column("fence", Integer, nullable=False, comment="grows by one at every claim"),
    Column("tries", SmallInteger, nullable=False, comment="of the present step"),
    Column("priority", SmallInteger, nullable=False, comment="0 goes first, 9 last"),
    Column("owner", String(64), nullable=False),
    Column("turn", BigInteger, comment="place in the queue; none while it is for later"),
    Column("idempotency_key", String(200)),
    Column("request", _Json, nullable=False),
    Column("request_digest", String(64), nullable=False),
    Column("on_uncertain", String(16)),
    Column("max_paid_attempts", SmallInteger),
    Column("meta", _Json),
    Column("notify", String(500), comment="whom to tell at the end: a Celery task or a URL"),
    Column("trace", String(55), comment="W3C traceparent of the app's span that asked for it"),
    Column("attempt", SmallInteger, nullable=False, comment="number of the latest attempt"),
    Column("key_id", String(8), comment="the API key of the latest attempt"),
    Column("result_attempt", SmallInteger, comment="whose result is stored"),
    Column("result_expires_at", Time),
    Column("result", _Json),
    Column("error_code", String(64)),
    Column("error", String(500)),
    Column("decided_by", String(16)),
    Column("created_at", Time, nullable=False),
    Column("finished_at", Time),
    Column("input_purged_at", Time, comment="its source picture was deleted from storage"),
    Column("result_purged_at", Time, comment="its results were deleted from storage"),
    **_OPTIONS,
)


def in_state(*states: State) -> ColumnElement[bool]:
    """Whether a job is in one of these states, as a constant of the statement.

    A bound value would do, until the server plans the statement once for all values: an index that
    holds one state's jobs is then of no use to it, and a million rows are read.
    """
    words = [literal_column(f"'{state}'", String) for state in sorted(states)]
    return job.c.state == words[0] if len(words) == 1 else job.c.state.in_(words)


def _some(name: str, *columns: str, where: str) -> Index:
    """An index that holds some jobs only, where the database can; MariaDB's holds all."""
    return Index(
        name,
        *(job.c[column] for column in columns),
        postgresql_where=text(where),
        sqlite_where=text(where),
    )


_QUEUED = "state = 'queued'"
_some("ix_cutwork_job_queue", "state", "priority", "turn", where=f"{_QUEUED} AND turn IS NOT NULL")
_some("ix_cutwork_job_turn", "state", "owner", "priority", "turn", where=_QUEUED)
_some("ix_cutwork_job_asleep", "state", "turn", "due_at", where=f"{_QUEUED} AND turn IS NULL")
_some("ix_cutwork_job_alarm", "state", "due_at", where="due_at IS NOT NULL")
_some("ix_cutwork_job_store", "state", "result_expires_at", where="state = 'storing'")
_some("ix_cutwork_job_lease", "state", "lease", where="lease IS NOT NULL")
_some("ix_cutwork_job_finished", "finished_at", where="finished_at IS NOT NULL")
# What people look for by state. It holds no job that goes well, so these do not pay for it; where
# it would hold all jobs it is not made: there the index of alarms has them too, in the same order.
OVER = (State.CANCELLED, State.FAILED, State.HELD)
PARTIAL_ONLY = ("postgresql", "sqlite")
_over = text("state IN ('cancelled', 'failed', 'held')")
Index(
    "ix_cutwork_job_over",
    job.c.state,
    job.c.id,
    postgresql_where=_over,
    sqlite_where=_over,
    info={"only": PARTIAL_ONLY},
).ddl_if(dialect=PARTIAL_ONLY)  # type: ignore[arg-type]  # several are taken as well
KEYED = text("idempotency_key IS NOT NULL")
Index(
    "uq_cutwork_job_key",
    job.c.owner,
    job.c.idempotency_key,
    unique=True,
    postgresql_where=KEYED,
    sqlite_where=KEYED,
)

attempt = Table(
    "cutwork_attempt",
    metadata,
    Column("job_id", _Id, ForeignKey(job.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("key_id", String(8), nullable=False),
    Column("fence", Integer, nullable=False, comment="the claim that wrote the intent"),
    Column("callback", Boolean, nullable=False, comment="sent with a callback URL"),
    Column("task_id", String(200)),
    Column("provider_state", Integer),
    Column("report", _Json, comment="the provider's last word; its links are secrets"),
    Column("detail", String(500)),
    Column("decided_by", String(16)),
    Column("checks", SmallInteger, nullable=False),
    Column("callbacks", SmallInteger, nullable=False),
    Column("relinks", SmallInteger, nullable=False, comment="fresh links asked for"),
    Column("seconds", Float, comment="the provider's own time for it, as it says"),
    Column("trail", _Json, comment="what happened to it and when, the latest last"),
    Column("intended_at", Time, nullable=False, index=True),
    Column("accepted_at", Time),
    Column("heard_at", Time, comment="last callback"),
    Column("finished_at", Time),
    **_OPTIONS,
)

gate = Table(
    "cutwork_gate",
    metadata,
    Column("key_id", String(8), primary_key=True),
    Column("free_at", Time, nullable=False, comment="GCRA: when the last permit is worked off"),
    Column("paused", Boolean, nullable=False),
    Column("closed_until", Time, comment="Retry-After, or our own back-off"),
    Column("throttles", SmallInteger, nullable=False, comment="429 in a row"),
    Column("trips", SmallInteger, nullable=False, comment="of the breaker, in a row"),
    Column("probe", _Id, comment="the one job that may go while the breaker is half open"),
    Column("probe_until", Time),
    Column("ramp_at", Time, comment="since when the breaker is closed again"),
    Column("good", Integer, nullable=False, comment="answers, since counted_since"),
    Column("bad", Integer, nullable=False, comment="failures, since counted_since"),
    Column("counted_since", Time),
    Column("reason", String(300)),
    **_OPTIONS,
)

owner = Table(
    "cutwork_owner",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("weight", Float, nullable=False, comment="share of the submits; others have 1"),
    **_OPTIONS,
)

pace = Table(
    "cutwork_pace",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("at", Time, nullable=False, comment="when it was learned"),
    Column("sample", Integer, nullable=False, comment="finished attempts that it comes from"),
    Column("lost", Float, nullable=False, comment="share of the callbacks that never came"),
    Column("quantiles", _Json, nullable=False),
    Column("first_called", Float, nullable=False, comment="s to the first check, with a callback"),
    Column("first_polled", Float, nullable=False, comment="the same without one"),
    Column("step", Float, nullable=False, comment="s from the first check to the second"),
    **_OPTIONS,
)

event = Table(
    "cutwork_event",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("at", Time, nullable=False),
    Column("job_id", _Id, index=True),
    Column("attempt", SmallInteger),
    Column("key_id", String(8)),
    Column("kind", String(32), nullable=False),
    Column("detail", String(500)),
    ForeignKeyConstraint(["job_id"], [job.c.id], ondelete="CASCADE"),
    Index("ix_cutwork_event_kind_at", "kind", "at"),
    **_OPTIONS,
)

notice = Table(
    "cutwork_notice",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("job_id", _Id, nullable=False, index=True),
    Column("state", String(16), nullable=False, comment="what the job came to"),
    Column("host", String(300), nullable=False, comment="who is told; empty: a Celery task"),
    Column("due_at", Time, comment="when to tell; none: it is told, or given up"),
    Column("lease", String(8), comment="message: named in the broker; worker: being told"),
    Column("tries", SmallInteger, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("told_at", Time),
    Column("error", String(500), comment="how the latest try failed"),
    ForeignKeyConstraint(["job_id"], [job.c.id], ondelete="CASCADE"),
    **_OPTIONS,
)
_OWED = text("due_at IS NOT NULL")
Index("ix_cutwork_notice_due_at", notice.c.due_at, postgresql_where=_OWED, sqlite_where=_OWED)
_LEASED = text("lease IS NOT NULL")
Index("ix_cutwork_notice_lease", notice.c.lease, postgresql_where=_LEASED, sqlite_where=_LEASED)

subscriber = Table(
    "cutwork_subscriber",
    metadata,
    Column("host", String(300), primary_key=True),
    Column("failures", SmallInteger, nullable=False, comment="in a row"),
    Column("closed_until", Time, nullable=False, comment="nobody is told there before"),
    **_OPTIONS,
)

tally = Table(
    "cutwork_tally",
    metadata,
    Column("what", String(32), primary_key=True),
    Column("which", String(96), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="of what was purged"),
    **_OPTIONS,
)

sleeper = Table(
    "cutwork_sleeper",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("asleep_until", Time, nullable=False, comment="a reconciler wants to be called"),
    **_OPTIONS,
)
