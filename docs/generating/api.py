"""``docs/api.md``: what ``import cutwork`` gives, from signatures and docstrings."""

import ast
import inspect
import re
import textwrap
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

import cutwork
from cutwork import django
from cutwork.jobs import Options

INTRODUCTION = """\
# Python

What `import cutwork` gives. It loads neither Celery nor an HTTP client, reads no environment, and needs no broker. `session` is always a SQLAlchemy `Session` or `Connection`, and it is you who commits. With an `AsyncSession`, write `await session.run_sync(cutwork.enqueue, image_url=…)`.

This page is generated from the docstrings.
"""
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields):$", re.MULTILINE)


def page() -> str:
    """The whole page."""
    named = {name: getattr(cutwork, name) for name in cutwork.__all__}
    errors = {n: v for n, v in named.items() if isinstance(v, type) and issubclass(v, Exception)}
    words = {n: v for n, v in named.items() if isinstance(v, type) and issubclass(v, Enum)}
    classes = {n: v for n, v in named.items() if is_dataclass(v) and n != "Settings"}
    functions = {n: v for n, v in named.items() if not isinstance(v, type)}
    order = list(vars(inspect.getmodule(cutwork.enqueue) or cutwork))
    parts = [INTRODUCTION, "## Functions\n"]
    parts += [
        _function(name, functions[name])
        for name in sorted(functions, key=lambda name: order.index(name) if name in order else 999)
    ]
    parts.append(_function("django.connection", django.connection))
    parts += ["## Options\n", _options(), "## Classes\n"]
    parts += [_class(name, kind) for name, kind in classes.items()]
    parts += [_enumeration(name, kind) for name, kind in words.items()]
    told = {"Settings", *errors, *classes, *words, *functions}
    parts += [_with_methods(name, kind) for name, kind in named.items() if name not in told]
    parts += ["### Settings\n", _prose(cutwork.Settings), _SETTINGS]
    parts += ["## Errors\n", _ERRORS, *(_error(name, kind) for name, kind in errors.items())]
    return "\n".join(parts)


_SETTINGS = """\
`Settings.load(os.environ)` reads them; [settings](settings.md) has each. A function that takes `settings` uses the environment's when none are given.
"""
_ERRORS = """\
Each keeps its facts as attributes, and says in one sentence what is wrong and what to do.
"""


def _function(name: str, function: Any) -> str:
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    before = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    arguments = "".join(f"    {one},\n" for one in _parameters(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    signature = f"{before}cutwork.{name}(\n{arguments}){returns}"
    return f"### {name}\n\n{_shown(signature)}\n{_prose(function)}"


def _shown(signature: str) -> str:
    return f"<!-- not run: a signature -->\n```python\n{signature}\n```\n"


def _parameters(asked: ast.arguments) -> list[str]:
    """Each as it is written in the source, the bare ``*`` included."""
    plain = [*asked.posonlyargs, *asked.args]
    missing = [None] * (len(plain) - len(asked.defaults))
    told = [_parameter(*one) for one in zip(plain, [*missing, *asked.defaults], strict=True)]
    if asked.vararg:
        told.append(f"*{_parameter(asked.vararg, None)}")
    elif asked.kwonlyargs:
        told.append("*")
    told += [_parameter(*one) for one in zip(asked.kwonlyargs, asked.kw_defaults, strict=True)]
    if asked.kwarg:
        told.append(f"**{_parameter(asked.kwarg, None)}")
    return told


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    value = f" = {ast.unparse(default)}" if default else ""
    return f"{argument.arg}{kind}{value}"


def _options() -> str:
    rows = [(name, kind, note) for name, kind, _, note in _fields(Options)]
    lines = [f"| `{name}` | {_code(kind)} | {note} |" for name, kind, note in rows]
    head = f"{inspect.getdoc(Options)}\n\n| option | type | meaning |\n|---|---|---|"
    return "\n".join([head, *lines, ""])


def _class(name: str, kind: type) -> str:
    told = dict(_items(inspect.getdoc(kind) or ""))
    rows = []
    for field, annotation, default, note in _fields(kind):
        value = "" if default in ("", "_empty") else f"`{default}`"
        rows.append((field, _code(annotation), value, note or told.get(field, "")))
    for field, value in vars(kind).items():
        if isinstance(value, property) and not field.startswith("_"):
            returns = value.fget.__annotations__.get("return", "") if value.fget else ""
            shown = inspect.formatannotation(returns) if returns else ""
            rows.append((field, _code(shown), "", _line(inspect.getdoc(value) or "")))
    lines = [f"| `{field}` | {kind_} | {value} | {note} |" for field, kind_, value, note in rows]
    head = "| field | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"### {name}\n", _prose(kind, without="Args"), head, *lines, ""])


def _fields(kind: type) -> list[tuple[str, str, str, str]]:
    """Name, annotation, default and the comment of each field, inherited ones first."""
    found: dict[str, tuple[str, str, str, str]] = {}
    for one in reversed([base for base in kind.__mro__ if base.__module__.startswith("cutwork")]):
        source = textwrap.dedent(inspect.getsource(one))
        (node,) = ast.parse(source).body
        lines = source.splitlines()
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                comment = lines[item.lineno - 1].partition("  # ")[2]
                found[name] = (name, ast.unparse(item.annotation), _default(item.value), comment)
    return list(found.values())


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    if isinstance(value, ast.Call):  # field(default=…, repr=False)
        given = {one.arg: ast.unparse(one.value) for one in value.keywords}
        return given.get("default") or {"dict": "{}"}.get(
            given.get("default_factory", ""), "_empty"
        )
    return ast.unparse(value)


def _enumeration(name: str, kind: type[Enum]) -> str:
    members = ", ".join(f"`{member.value}`" for member in kind)
    return (
        f"### {name}\n\nOne of {members}: [states, events and errors](states.md) explains each.\n"
    )


def _with_methods(name: str, kind: type) -> str:
    """A class that is used, not filled in."""
    lines = [f"### {name}\n", _prose(kind)]
    for method, value in vars(kind).items():
        function = value.__func__ if isinstance(value, classmethod) else value
        if inspect.isfunction(function) and not method.startswith("_"):
            asked = [str(one) for one in inspect.signature(function).parameters][1:]
            call = f"{name if function is not value else name.lower()}.{method}({', '.join(asked)})"
            first = (inspect.getdoc(function) or "").split("\n\n")[0]
            lines.append(f"* `{call}`: {_line(first)}" if first else f"* `{call}`")
    return "\n".join([*lines, ""])


def _error(name: str, kind: type) -> str:
    base = kind.__mro__[1].__name__
    of = "" if base == "Exception" else f" (a `{base}`)"
    return f"**`{name}`**{of}. {_line(inspect.getdoc(kind) or '')}\n"


def _prose(thing: Any, *, without: str = "") -> str:
    """A docstring as Markdown; its sections become lists."""
    text = inspect.getdoc(thing) or ""
    pieces = _SECTION.split(text)
    told = [_marked(pieces[0]).strip(), ""]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if title != without:
            items = [f"* `{name}`: {_marked(note)}" for name, note in _items(f"{title}:{body}")]
            told += [f"{title}:", "", *items, ""]
    return "\n".join(told)


def _items(text: str) -> list[tuple[str, str]]:
    """Name and meaning of each entry of a docstring's sections."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if begun := re.match(r"    (\w+): (.+)", line):
            found.append((begun[1], begun[2]))
        elif found and line.startswith("        "):
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return [(name, _marked(note)) for name, note in found]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "or") if text else ""


def _line(text: str) -> str:
    return " ".join(_marked(text).split())


def _marked(text: str) -> str:
    """Python's markup as Markdown's."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text.replace("``", "`"))
