"""Many rows as one JSON parameter, for PostgreSQL.

A driver binds a list of values one by one, in Python. A JSON text is one value, however many rows
it holds, and the statement around it stays the same for any number of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import TableValuedAlias, Text, bindparam, cast, column, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine


def of(shape: Iterable[tuple[str, TypeEngine[Any]]]) -> TableValuedAlias:
    """The rows of the parameter ``rows`` as a table with these columns.

    A key that a row lacks, and a JSON null, are SQL's NULL.
    """
    columns = [column(name, type_) for name, type_ in shape]
    rows = func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), JSONB))
    return rows.table_valued(*columns).render_derived(name="given", with_types=True)


def dump(rows: Sequence[Mapping[str, Any]]) -> str:
    """The value of the parameter ``rows``; what JSON has no word for becomes text."""
    return _encode(rows)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


_encode = json.JSONEncoder(default=_plain, separators=(",", ":"), check_circular=False).encode
