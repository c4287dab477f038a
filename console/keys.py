"""The job of an idempotency key. Keys are unique within an owner, and so is their index.

Without an owner the owners are asked one after the other, at most 10,000 of them. PostgreSQL and
SQLite step from owner to owner in a recursion, since they do not skip what is alike in an index by
themselves; MariaDB and MySQL do, and would look through all of it in a recursion.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, Select, and_, func, literal, select

from cutwork.schema import job

MOST_OWNERS = 10_000
_LISTED = 1_000


def find(tx: Connection, key: str, owner: str | None) -> list[UUID]:
    """Of one owner, or of any."""
    same = job.c.idempotency_key == key
    if owner is not None:
        return list(tx.execute(select(job.c.id).where(job.c.owner == owner, same)).scalars())
    owners = _owners(tx)
    query = select(job.c.id).join_from(owners, job, and_(job.c.owner == owners.c.owner, same))
    return list(tx.execute(query.limit(_LISTED)).scalars())


def are_more(tx: Connection) -> bool:
    """Whether there are owners that ``find`` does not ask, when it asks without one."""
    return tx.execute(select(func.count(_owners(tx).c.owner))).scalar_one() >= MOST_OWNERS


def _owners(tx: Connection) -> Any:
    return _skipped() if tx.dialect.name in ("mysql", "mariadb") else _stepped()


def _skipped() -> Any:
    return select(job.c.owner).distinct().limit(MOST_OWNERS).subquery()


def _stepped() -> Any:
    first = _next().add_columns(literal(1, Integer).label("n")).subquery()
    each = select(first).cte("owners", recursive=True)
    following = _next(each.c.owner).scalar_subquery()
    more = and_(each.c.owner.is_not(None), each.c.n < MOST_OWNERS)
    return each.union_all(select(following, each.c.n + 1).where(more))


def _next(last: Any = None) -> Select[Any]:
    """The first owner, or the one after ``last``, who has jobs with keys."""
    keyed = job.alias()
    query = select(keyed.c.owner).where(keyed.c.idempotency_key.is_not(None))
    beyond = query if last is None else query.where(keyed.c.owner > last)
    return beyond.order_by(keyed.c.owner).limit(1)
