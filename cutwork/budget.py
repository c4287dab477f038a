"""The daily budget: what may be spent in a day (UTC, by the database's clock), over all keys.

What counts is what was or may have been charged: an attempt whose task failed, or was never made,
gives its place back. When the budget is used up jobs wait for the next day; none fails for it.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from cutwork.clock import now
from cutwork.events import Kind, record
from cutwork.schema import attempt, event
from cutwork.settings import Settings
from cutwork.states import Attempt

_FREE = (Attempt.VOID, Attempt.FAILED)


def left(tx: Connection, settings: Settings, *, released: int = 0) -> int | None:
    """How many more submits fit into today; None without a budget. Counts ``released`` jobs too."""
    if not settings.daily_budget:
        return None
    return max(0, settings.daily_budget - spent(tx) - released)


def spent(tx: Connection) -> int:
    """Today's submits that were charged, or may have been."""
    counted = attempt.c.intended_at >= begin(tx), attempt.c.state.not_in(_FREE)
    return int(tx.execute(select(func.count()).select_from(attempt).where(*counted)).scalar_one())


def note(tx: Connection, settings: Settings) -> None:
    """Write into the events that the budget is used up, once a day."""
    today = (event.c.kind == Kind.BUDGET, event.c.at >= begin(tx))
    if not tx.execute(select(func.count()).select_from(event).where(*today)).scalar_one():
        record(tx, Kind.BUDGET, f"the {settings.daily_budget} submits of today are used up")


def begin(tx: Connection) -> datetime:
    """When today began."""
    moment: datetime = tx.execute(select(now())).scalar_one()
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def renews_in(at: datetime) -> float:
    """Seconds from ``at`` to the next day's budget."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - at).total_seconds()
