"""Spans of time as people write them: ``30d``, ``12h``, ``90min``, ``45s``."""

import re

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-z]*)", re.IGNORECASE)


def span(text: str, *, most: float) -> float:
    """Seconds; a number alone means seconds.

    Raises:
        ValueError: it is none, or longer than ``most`` seconds.
    """
    match = _SPAN.fullmatch(text.strip())
    unit = match[2].lower() or "s" if match else ""
    if match is None or unit not in _UNITS:
        raise ValueError("must be a span of time such as 30d, 12h, 90min or 45s")
    seconds = float(match[1]) * _UNITS[unit]
    if seconds > most:
        raise ValueError(f"must be at most {most / 86400:.0f}d")
    return seconds
