"""Job ids as people write them: whole, or a few digits of the beginning or the end.

The first digits of an id are its time, which neighbours share, so the short id that is printed is
the last eight.
"""

import re
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, String, cast, func, or_, select

from cutwork import schema
from cutwork.errors import InvalidInput, JobNotFound

_SHORT, _LEAST = 8, 4


def short(job_id: UUID) -> str:
    """The last eight digits."""
    return job_id.hex[-_SHORT:]


def resolve(tx: Connection, text: str) -> UUID:
    """The job that the text names.

    Raises:
        InvalidInput: it is no id, or fits several jobs.
        JobNotFound: it fits none.
    """
    digits = text.strip().replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST},32}}", digits):
        rule = f"must be an id, or at least {_LEAST} hex digits of its beginning or end"
        raise InvalidInput("job", text, rule, "`cutwork list` shows ids")
    if len(digits) == 32:
        return UUID(digits)
    found = _fitting(tx, digits)
    if not found:
        raise JobNotFound(text)
    if len(found) > 1:
        raise InvalidInput("job", text, "fits more than one job", _choices(found))
    return found[0]


def resolve_all(tx: Connection, texts: Iterable[str]) -> list[UUID]:
    """Each job once, in the order of the texts."""
    return list(dict.fromkeys(resolve(tx, text) for text in texts))


def _fitting(tx: Connection, digits: str) -> list[UUID]:
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    plain = func.replace(cast(schema.job.c.id, String(36)), "-", "")
    begins = schema.job.c.id.between(first, last)
    fits = or_(begins, plain.like(f"%{digits}"))
    return list(tx.execute(select(schema.job.c.id).where(fits).limit(6)).scalars())


def _choices(found: list[UUID]) -> str:
    ends = {job_id.hex[-_SHORT:] for job_id in found}
    told = sorted(ends) if len(ends) == len(found) else sorted(map(str, found))
    more = " …" if len(found) > 5 else ""
    return f"write one of {', '.join(told[:5])}{more}"
