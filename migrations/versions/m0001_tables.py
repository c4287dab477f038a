"""The tables of the first release."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen here, so that a later change of cutwork.schema cannot change what this migration made.
_TIME = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_ID = sa.Uuid(native_uuid=False).with_variant(sa.Uuid(), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPTIONS: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    _create_job()
    _create_job_indexes()
    _create_attempt()
    _create_gate()
    _create_owner()
    _create_pace()
    _create_event()
    _create_notice()
    _create_subscriber()
    _create_tally()
    _create_sleeper()


def downgrade() -> None:
    op.drop_table("cutwork_sleeper")
    op.drop_table("cutwork_tally")
    op.drop_table("cutwork_subscriber")
    op.drop_table("cutwork_notice")
    op.drop_table("cutwork_event")
    op.drop_table("cutwork_pace")
    op.drop_table("cutwork_owner")
    op.drop_table("cutwork_gate")
    op.drop_table("cutwork_attempt")
    op.drop_table("cutwork_job")


def _create_job() -> None:
    op.create_table(
        "cutwork_job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column(
            "due_at", _TIME, comment="when somebody must look, unless something happens first"
        ),
        sa.Column(
            "lease", sa.String(8), comment="message: named in the broker; worker: being worked on"
        ),
        sa.Column("fence", sa.Integer(), nullable=False, comment="grows by one at every claim"),
        sa.Column("tries", sa.SmallInteger(), nullable=False, comment="of the present step"),
        sa.Column("priority", sa.SmallInteger(), nullable=False, comment="0 goes first, 9 last"),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column(
            "turn", sa.BigInteger(), comment="place in the queue; none while it is for later"
        ),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("request", _JSON, nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("on_uncertain", sa.String(16)),
        sa.Column("max_paid_attempts", sa.SmallInteger()),
        sa.Column("meta", _JSON),
        sa.Column(
            "notify", sa.String(500), comment="whom to tell at the end: a Celery task or a URL"
        ),
        sa.Column(
            "trace", sa.String(55), comment="W3C traceparent of the app's span that asked for it"
        ),
        sa.Column(
            "attempt", sa.SmallInteger(), nullable=False, comment="number of the latest attempt"
        ),
        sa.Column("key_id", sa.String(8), comment="the API key of the latest attempt"),
        sa.Column("result_attempt", sa.SmallInteger(), comment="whose result is stored"),
        sa.Column("result_expires_at", _TIME),
        sa.Column("result", _JSON),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.String(500)),
        sa.Column("decided_by", sa.String(16)),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
        sa.Column("input_purged_at", _TIME, comment="its source picture was deleted from storage"),
        sa.Column("result_purged_at", _TIME, comment="its results were deleted from storage"),
        sa.PrimaryKeyConstraint("id", name="pk_cutwork_job"),
        **_OPTIONS,
    )


def _create_job_indexes() -> None:
    partial = {
        "ix_cutwork_job_queue": (
            ["state", "priority", "turn"],
            "state = 'queued' AND turn IS NOT NULL",
        ),
        "ix_cutwork_job_turn": (["state", "owner", "priority", "turn"], "state = 'queued'"),
        "ix_cutwork_job_asleep": (
            ["state", "turn", "due_at"],
            "state = 'queued' AND turn IS NULL",
        ),
        "ix_cutwork_job_alarm": (["state", "due_at"], "due_at IS NOT NULL"),
        "ix_cutwork_job_store": (["state", "result_expires_at"], "state = 'storing'"),
        "ix_cutwork_job_lease": (["state", "lease"], "lease IS NOT NULL"),
        "ix_cutwork_job_finished": (["finished_at"], "finished_at IS NOT NULL"),
        "uq_cutwork_job_key": (["owner", "idempotency_key"], "idempotency_key IS NOT NULL"),
    }
    for name, (columns, where) in partial.items():
        op.create_index(
            name,
            "cutwork_job",
            columns,
            unique=name.startswith("uq_"),
            postgresql_where=sa.text(where),
            sqlite_where=sa.text(where),
        )
    if op.get_context().dialect.name in ("postgresql", "sqlite"):
        over = sa.text("state IN ('cancelled', 'failed', 'held')")
        op.create_index(
            "ix_cutwork_job_over",
            "cutwork_job",
            ["state", "id"],
            postgresql_where=over,
            sqlite_where=over,
        )


def _create_attempt() -> None:
    op.create_table(
        "cutwork_attempt",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False, comment="the claim that wrote the intent"),
        sa.Column("callback", sa.Boolean(), nullable=False, comment="sent with a callback URL"),
        sa.Column("task_id", sa.String(200)),
        sa.Column("provider_state", sa.Integer()),
        sa.Column("report", _JSON, comment="the provider's last word; its links are secrets"),
        sa.Column("detail", sa.String(500)),
        sa.Column("decided_by", sa.String(16)),
        sa.Column("checks", sa.SmallInteger(), nullable=False),
        sa.Column("callbacks", sa.SmallInteger(), nullable=False),
        sa.Column("relinks", sa.SmallInteger(), nullable=False, comment="fresh links asked for"),
        sa.Column("seconds", sa.Float(), comment="the provider's own time for it, as it says"),
        sa.Column("trail", _JSON, comment="what happened to it and when, the latest last"),
        sa.Column("intended_at", _TIME, nullable=False),
        sa.Column("accepted_at", _TIME),
        sa.Column("heard_at", _TIME, comment="last callback"),
        sa.Column("finished_at", _TIME),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["cutwork_job.id"],
            name="fk_cutwork_attempt_cutwork_job",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_cutwork_attempt"),
        **_OPTIONS,
    )
    op.create_index("ix_cutwork_attempt_intended_at", "cutwork_attempt", ["intended_at"])


def _create_gate() -> None:
    op.create_table(
        "cutwork_gate",
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column(
            "free_at", _TIME, nullable=False, comment="GCRA: when the last permit is worked off"
        ),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("closed_until", _TIME, comment="Retry-After, or our own back-off"),
        sa.Column("throttles", sa.SmallInteger(), nullable=False, comment="429 in a row"),
        sa.Column("trips", sa.SmallInteger(), nullable=False, comment="of the breaker, in a row"),
        sa.Column("probe", _ID, comment="the one job that may go while the breaker is half open"),
        sa.Column("probe_until", _TIME),
        sa.Column("ramp_at", _TIME, comment="since when the breaker is closed again"),
        sa.Column("good", sa.Integer(), nullable=False, comment="answers, since counted_since"),
        sa.Column("bad", sa.Integer(), nullable=False, comment="failures, since counted_since"),
        sa.Column("counted_since", _TIME),
        sa.Column("reason", sa.String(300)),
        sa.PrimaryKeyConstraint("key_id", name="pk_cutwork_gate"),
        **_OPTIONS,
    )


def _create_owner() -> None:
    op.create_table(
        "cutwork_owner",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column(
            "weight", sa.Float(), nullable=False, comment="share of the submits; others have 1"
        ),
        sa.PrimaryKeyConstraint("owner", name="pk_cutwork_owner"),
        **_OPTIONS,
    )


def _create_pace() -> None:
    op.create_table(
        "cutwork_pace",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", _TIME, nullable=False, comment="when it was learned"),
        sa.Column(
            "sample", sa.Integer(), nullable=False, comment="finished attempts that it comes from"
        ),
        sa.Column(
            "lost", sa.Float(), nullable=False, comment="share of the callbacks that never came"
        ),
        sa.Column("quantiles", _JSON, nullable=False),
        sa.Column(
            "first_called",
            sa.Float(),
            nullable=False,
            comment="s to the first check, with a callback",
        ),
        sa.Column("first_polled", sa.Float(), nullable=False, comment="the same without one"),
        sa.Column(
            "step", sa.Float(), nullable=False, comment="s from the first check to the second"
        ),
        sa.PrimaryKeyConstraint("kind", name="pk_cutwork_pace"),
        **_OPTIONS,
    )


def _create_event() -> None:
    op.create_table(
        "cutwork_event",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("job_id", _ID),
        sa.Column("attempt", sa.SmallInteger()),
        sa.Column("key_id", sa.String(8)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("detail", sa.String(500)),
        sa.ForeignKeyConstraint(
            ["job_id"], ["cutwork_job.id"], name="fk_cutwork_event_cutwork_job", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_cutwork_event"),
        **_OPTIONS,
    )
    op.create_index("ix_cutwork_event_job_id", "cutwork_event", ["job_id"])
    op.create_index("ix_cutwork_event_kind_at", "cutwork_event", ["kind", "at"])


def _create_notice() -> None:
    op.create_table(
        "cutwork_notice",
        sa.Column("id", _ID, nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, comment="what the job came to"),
        sa.Column(
            "host", sa.String(300), nullable=False, comment="who is told; empty: a Celery task"
        ),
        sa.Column("due_at", _TIME, comment="when to tell; none: it is told, or given up"),
        sa.Column(
            "lease", sa.String(8), comment="message: named in the broker; worker: being told"
        ),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("told_at", _TIME),
        sa.Column("error", sa.String(500), comment="how the latest try failed"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["cutwork_job.id"], name="fk_cutwork_notice_cutwork_job", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_cutwork_notice"),
        **_OPTIONS,
    )
    op.create_index("ix_cutwork_notice_job_id", "cutwork_notice", ["job_id"])
    for column in ("due_at", "lease"):
        open_ = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_cutwork_notice_{column}",
            "cutwork_notice",
            [column],
            postgresql_where=open_,
            sqlite_where=open_,
        )


def _create_subscriber() -> None:
    op.create_table(
        "cutwork_subscriber",
        sa.Column("host", sa.String(300), nullable=False),
        sa.Column("failures", sa.SmallInteger(), nullable=False, comment="in a row"),
        sa.Column("closed_until", _TIME, nullable=False, comment="nobody is told there before"),
        sa.PrimaryKeyConstraint("host", name="pk_cutwork_subscriber"),
        **_OPTIONS,
    )


def _create_tally() -> None:
    op.create_table(
        "cutwork_tally",
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("which", sa.String(96), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="of what was purged"),
        sa.PrimaryKeyConstraint("what", "which", name="pk_cutwork_tally"),
        **_OPTIONS,
    )


def _create_sleeper() -> None:
    op.create_table(
        "cutwork_sleeper",
        sa.Column("id", _ID, nullable=False),
        sa.Column("asleep_until", _TIME, nullable=False, comment="a reconciler wants to be called"),
        sa.PrimaryKeyConstraint("id", name="pk_cutwork_sleeper"),
        **_OPTIONS,
    )
