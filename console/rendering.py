"""Templates, and how times, numbers and pictures are written in them. Everything is escaped."""

import json
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cutwork import sources
from cutwork.job import Job

_STATIC = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def environment() -> Environment:
    """One for the process."""
    made = Environment(
        loader=PackageLoader("cutwork.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago, "clock": clock, "duration": duration, "moment": moment, "short": short,
        "since": since, "what": what, "size": size, "pretty": pretty,
    }  # fmt: skip
    made.globals |= {"static": address_of}
    return made


def render(template: str, **values: Any) -> bytes:
    """The page, in UTF-8."""
    return environment().get_template(template).render(**values).encode()


def static(name: str) -> tuple[bytes, str] | None:
    """One of our own files and its Content-Type."""
    if name not in _STATIC:
        return None
    return _read(name), _STATIC[name]


def address_of(name: str) -> str:
    """Its address, another one when it is another file."""
    return f"/static/{name}?v={sha256(_read(name)).hexdigest()[:12]}"


def short(job_id: UUID) -> str:
    """The last eight digits, as commands show a job."""
    return job_id.hex[-8:]


def what(job: Job) -> str:
    """The picture that was sent, in words; an address without its query."""
    if given := job.request.get("image_file"):
        return f"{given['format']}, {given['width']}x{given['height']}"
    return sources.shown(job.request.get("image_url") or "")


def pretty(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def moment(value: datetime | None) -> Markup:
    """A time in UTC, to the second, for people and programs."""
    if value is None:
        return Markup("")
    utc = value.astimezone(UTC)
    words = f"{utc:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{} UTC</time>').format(utc.isoformat(), words)


def clock(value: datetime, first: datetime) -> Markup:
    """The time of the day, in UTC, with its date if that is not the day of ``first``."""
    utc = value.astimezone(UTC)
    same = utc.date() == first.astimezone(UTC).date()
    words = f"{utc:%H:%M:%S}" if same else f"{utc:%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), words)


def since(seconds: float) -> str:
    """``+0.4 s``, and from two hours on as ``duration`` says it."""
    return f"{seconds:+.1f} s" if seconds < 7200 else f"+{duration(seconds)}"


def ago(value: datetime | None, at: datetime) -> Markup:
    """How long before ``at``, with the time itself behind it."""
    if value is None:
        return Markup("")
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S} UTC", duration((at - value).total_seconds())
    )


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``4 s``, ``12 min``, ``5 h``, ``3 d``."""
    if seconds is None:
        return "none"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def size(count: int) -> str:
    """``812 bytes``, ``34 kB``, ``1.2 MB``."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


@cache
def _read(name: str) -> bytes:
    return files("cutwork.console").joinpath("static", name).read_bytes()
