"""Many rows as JSON parameters, one for each column, for PostgreSQL.

A driver binds a list of values one by one, in Python. A JSON text is one value, however many rows
it is for, and the statement around it stays the same for any number of them. A column is read in
half the time that the same values take as members of an object for each row.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    ColumnElement,
    String,
    Subquery,
    Text,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
)
from sqlalchemy.types import TypeEngine


def of(shape: Iterable[tuple[str, TypeEngine[Any]]], *more: ColumnElement[Any]) -> Subquery:
    """The rows of ``dump`` as a table with these columns, and ``more`` of the caller's.

    A JSON null is SQL's NULL.
    """
    return select(*(_column(name, type_) for name, type_ in shape), *more).subquery("given")


def dump(columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The parameters, for columns of the same length; what JSON has no word for becomes text."""
    return {f"each_{name}": _encode(values) for name, values in columns.items()}


def _column(name: str, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    values = cast(bindparam(f"each_{name}", type_=Text), JSON)
    texts = func.json_array_elements_text(values)
    # A cast to a text of limited length would cut off what is too long.
    made = type_coerce(texts, type_) if isinstance(type_, String) else cast(texts, type_)
    return made.label(name)


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return value.hex
    return value.isoformat() if isinstance(value, datetime) else str(value)


_encode = json.JSONEncoder(default=_plain, separators=(",", ":"), check_circular=False).encode
