"""Whether a job's ``meta`` holds what is looked for, in the words of each database.

Values are compared as text, so ``42`` finds the number and the string; what is only contained may
be in capitals or not. A step that is a number is a place in a list, on PostgreSQL also a name.
"""

import json
from typing import Any

from sqlalchemy import ColumnElement, String, Text, case, cast, func, literal, or_
from sqlalchemy.dialects import postgresql

from .filtering import Meta


def matches(dialect: str, column: ColumnElement[Any], wanted: Meta) -> ColumnElement[bool]:
    """A condition on ``column``, which is a job's ``meta``."""
    if not wanted.path:
        return _anywhere(dialect, column, wanted.text)
    found = _value(dialect, column, wanted.path)
    return found == wanted.text if wanted.whole else _contains(found, wanted.text)


def _value(dialect: str, column: ColumnElement[Any], path: tuple[str, ...]) -> ColumnElement[Any]:
    """The text of the value there; NULL where there is none."""
    if dialect == "postgresql":
        steps = literal(list(path), postgresql.ARRAY(Text))
        return column.op("#>>", return_type=Text())(steps)
    written = "".join(f"[{step}]" if step.isdigit() else f'."{step}"' for step in path)
    place = literal(f"${written}", String)
    if dialect == "sqlite":
        kind = func.json_type(column, place)
        text = cast(func.json_extract(column, place, type_=String), Text)
        return case((kind.in_(("true", "false")), kind), else_=text)
    return func.json_unquote(func.json_extract(column, place, type_=String), type_=String)


def _anywhere(dialect: str, column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """In names and values; PostgreSQL keeps JSON as it reads, the others as it was written."""
    if dialect == "postgresql":
        return _contains(cast(column, Text), text)
    written = json.dumps(text)[1:-1]
    whole = cast(column, Text) if dialect == "sqlite" else cast(column, String)
    return or_(_contains(whole, text), _contains(whole, written))


def _contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    return func.lower(column).contains(text.lower(), autoescape=True)
