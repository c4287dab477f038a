"""The guard: when many submits are uncertain at once, nothing is paid for a second time.

One lost reply is bad luck, and its policy decides. Many of them are an outage, in which every
second try may be charged as well and be lost again: then they all wait until it is over.
"""

from sqlalchemy import Connection, func, select

from cutwork.clock import after
from cutwork.events import Kind, record
from cutwork.schema import attempt, event
from cutwork.settings import Settings

# A share of a handful is no share.
_LEAST = 5


def stops_second_tries(tx: Connection, settings: Settings) -> str | None:
    """Why no second try may be paid for now, as a sentence; None when one may."""
    uncertain = _count(tx, Kind.UNCERTAIN, settings.guard_window)
    if uncertain < _LEAST and uncertain <= settings.guard_count:
        return None
    since = attempt.c.intended_at > after(-settings.guard_window)
    submits = tx.execute(select(func.count()).select_from(attempt).where(since)).scalar_one()
    many = uncertain > settings.guard_count
    share = uncertain >= _LEAST and uncertain > settings.guard_share * submits
    if not (many or share):
        return None
    window = f"the last {settings.guard_window:.0f} s"
    return f"no second try is paid for: {uncertain} of {submits} submits in {window} were uncertain"


def note(tx: Connection, reason: str, settings: Settings) -> None:
    """Write into the events that the guard stopped something, once for each window."""
    if not _count(tx, Kind.GUARDED, settings.guard_window):
        record(tx, Kind.GUARDED, reason)


def _count(tx: Connection, kind: Kind, seconds: float) -> int:
    recent = (event.c.kind == kind, event.c.at > after(-seconds))
    return int(tx.execute(select(func.count()).select_from(event).where(*recent)).scalar_one())
