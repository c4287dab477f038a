"""Whether the clocks that meet in a job agree: this host's, the database's, the webhook's, theirs.

A job's alarms go by the database's clock alone. A callback's address is minted by a worker's host
and expires by the webhook's, and buckets and TLS believe in the host's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from cutwork.clock import now
from cutwork.finding import Finding, finding
from cutwork.settings import Settings

# Seconds. A question and its answer take some time, and a Date header has no fractions.
_AGREE = 5.0
_NEAR = 30.0


def compare_database(tx: Connection) -> Finding:
    """This host's clock against the database's, half of the round trip taken off."""
    asked = datetime.now(UTC)
    theirs = tx.execute(select(now())).scalar_one()
    ours = asked + (datetime.now(UTC) - asked) / 2
    seconds = (ours - theirs).total_seconds()
    if abs(seconds) <= _AGREE:
        return finding("clock_ok")
    return finding("clock_host", seconds=abs(seconds), way=_way(seconds))


def compare_webhook(settings: Settings, seconds: float) -> Iterator[Finding]:
    """What it means that the webhook's clock is so many seconds ahead of ours."""
    if seconds > settings.callback_ttl / 2:
        yield finding("clock_expires", seconds=seconds, ttl=settings.callback_ttl)
    elif abs(seconds) > _AGREE:
        yield finding("clock_webhook", seconds=abs(seconds), way=_way(seconds))


def compare_provider(date: datetime | None) -> Iterator[Finding]:
    """The provider's clock, which has nothing to do with ours, as a third opinion."""
    if date is None:
        return
    seconds = (date - datetime.now(UTC)).total_seconds()
    if abs(seconds) > _NEAR:
        yield finding("clock_provider", seconds=abs(seconds), way=_way(seconds))


def _way(seconds: float) -> str:
    return "ahead of" if seconds > 0 else "behind"
