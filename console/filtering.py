"""What somebody looks for, as the form of the jobs' page says it: read, checked, written back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from cutwork.states import State

from .asking import Asked

NAMES = ("state", "key", "owner", "meta", "error", "after", "before", "id")
_LONGEST = 200
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
# Further than any job is old, and far from where the calendar ends.
_YEARS = range(1970, 3000)
_SPAN = re.compile(r"(\d{1,6})\s*([a-z]+)", re.IGNORECASE)
_ID = re.compile(r"[0-9a-f]{4,32}")
# A step is a name or a place in a list; what would need escaping in some database is refused.
_META = re.compile(r"([\w-]+(?:\.[\w-]+)*)\s*([=~])\s*(.+)", re.DOTALL)


@dataclass(frozen=True)
class Meta:
    """``path`` is empty for a search in all of ``meta``; ``whole`` says equal, else contains."""

    path: tuple[str, ...]
    text: str
    whole: bool


@dataclass(frozen=True)
class Filter:
    """``texts`` is what was typed; ``faults`` says by name what cannot be understood."""

    texts: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    meta: Meta | None = None
    after: datetime | None = None
    before: datetime | None = None
    digits: str = ""
    older: UUID | None = None

    def text(self, name: str) -> str:
        return self.texts.get(name, "")

    def query(self, **more: str) -> str:
        """The same filter as the query of an address, with or without a place to go on from."""
        return urlencode(dict(self.texts) | more)


def read(asked: Asked, now: datetime) -> Filter:
    """The filter of an address; times without a zone are UTC."""
    typed = {name: asked.one(name).strip()[:_LONGEST] for name in NAMES}
    texts = {name: text for name, text in typed.items() if text}
    faults: dict[str, str] = {}
    state = _state(texts, faults)
    moments = {name: _moment(name, texts, faults, now) for name in ("after", "before")}
    return Filter(
        texts=texts,
        faults=faults,
        state=state,
        meta=_meta(texts),
        digits=_digits(texts, faults),
        older=_uuid(asked.one("older")),
        **moments,
    )


def _state(texts: Mapping[str, str], faults: dict[str, str]) -> State | None:
    text = texts.get("state", "")
    if not text:
        return None
    if text not in list(State):
        faults["state"] = "is no state of a job"
        return None
    return State(text)


def _meta(texts: Mapping[str, str]) -> Meta | None:
    text = texts.get("meta", "")
    if not text:
        return None
    match = _META.fullmatch(text)
    if match is None:
        return Meta((), text, whole=False)
    return Meta(tuple(match[1].split(".")), match[3].strip(), whole=match[2] == "=")


def _digits(texts: Mapping[str, str], faults: dict[str, str]) -> str:
    digits = texts.get("id", "").replace("-", "").lower()
    if digits and not _ID.fullmatch(digits):
        faults["id"] = "must be an id, or at least 4 hex digits of its beginning or end"
        return ""
    return digits


def _moment(
    name: str, texts: Mapping[str, str], faults: dict[str, str], now: datetime
) -> datetime | None:
    """A time as it is written, or a span, which is that long ago."""
    text = texts.get(name, "")
    if not text:
        return None
    span = _SPAN.fullmatch(text)
    if span and span[2].lower() in _UNITS:
        seconds = int(span[1]) * _UNITS[span[2].lower()]
        return now - timedelta(seconds=min(seconds, 3650 * 86_400))
    told = _time(text)
    if told is None:
        faults[name] = "must be a span such as 2h or 3d, or a time such as 2026-03-01 12:00 (UTC)"
    return told


def _time(text: str) -> datetime | None:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    if told.year not in _YEARS:
        return None
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
