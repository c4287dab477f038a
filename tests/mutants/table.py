"""T0: every small change of ``cutwork/states.py``, each run against ``tests/test_states.py``.

``python -m tests.mutants.table`` prints the survivors, and how many of how many were noticed.
"""

import ast
import contextlib
import copy
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.running import ROOT

NAME = "cutwork.states"
TESTS = "tests/test_states.py"
_BOUND = 0.9
# The exit status of a mutant that cannot even be imported.
_BROKEN = 99
_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Is: (ast.IsNot,),
}
_COMBINED: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.BitOr: (ast.Sub, ast.BitAnd),
    ast.Sub: (ast.BitOr, ast.BitAnd),
}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """What is changed, and the module's source with that change alone."""
    tree = ast.parse(source)
    for at, node in enumerate(ast.walk(tree)):
        for change in range(_changes(node)):
            changed = copy.deepcopy(tree)
            copied = list(ast.walk(changed))[at]
            before = ast.unparse(copied)
            said = _change(copied, change)
            yield f"line {getattr(node, 'lineno', 0)}: {said or before}", ast.unparse(changed)


def _changes(node: ast.AST) -> int:
    match node:
        case ast.Dict(keys=keys, values=values):  # each entry removed, and each led elsewhere
            return len(values) + sum(key is not None for key in keys)
        case ast.Set(elts=elements) | ast.comprehension(iter=ast.Tuple(elts=elements)):
            return len(elements)
        case ast.DictComp():
            return 1
        case ast.Compare(ops=[operator]):
            return len(_COMPARED.get(type(operator), ()))
        case ast.BinOp(right=ast.Constant()):  # "or None", in a type
            return 0
        case ast.BinOp(op=operator):
            return len(_COMBINED.get(type(operator), ()))
    return 0


def _change(node: ast.AST, change: int) -> str:
    """Make one change; returns what it is."""
    match node:
        case ast.Dict(keys=keys, values=values):
            at = change % len(values)  # what has no key of its own stands last
            key = keys[at]
            said = ast.unparse(key) if key else f"**{ast.unparse(values[at])}"
            if change < len(values):
                del keys[at], values[at]
                return f"without {said}"
            if isinstance(values[at], ast.Constant):
                other = (at + 1) % len(values)
                values[at], values[other] = values[other], values[at]
            else:
                values[at] = _elsewhere(values[at])
            return f"{said} leads elsewhere"
        case ast.DictComp():
            node.value = _elsewhere(node.value)
        case ast.Set(elts=elements) | ast.comprehension(iter=ast.Tuple(elts=elements)):
            return f"without {ast.unparse(elements.pop(change))} of {len(elements) + 1}"
        case ast.Compare(ops=[operator]):
            node.ops = [_COMPARED[type(operator)][change]()]
        case ast.BinOp(op=operator):
            node.op = _COMBINED[type(operator)][change]()
    return f"now {ast.unparse(node)}"


def _elsewhere(value: ast.AST) -> ast.Name:
    """The name of another state than the one that ``value`` names."""
    names = ["_Q", "_SUB", "_U", "_W", "_ST", "_H", "_OK", "_F", "_C"]
    at = names.index(ast.unparse(value))
    return ast.Name(names[(at + 1) % len(names)], ast.Load())


def noticed(source: str) -> bool:
    """Whether the table's tests fail, in a process of their own, with this source of the module."""
    child = multiprocessing.get_context("fork").Process(target=_test, args=(source,))
    child.start()
    child.join()
    return child.exitcode == pytest.ExitCode.TESTS_FAILED or child.exitcode == _BROKEN


def _test(source: str) -> None:
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    try:
        exec(compile(source, "cutwork/states.py", "exec"), module.__dict__)  # noqa: S102 - ours
    except Exception:  # noqa: BLE001 - whatever it is, the mutant cannot be overlooked
        os._exit(_BROKEN)
    options = ["--noconftest", "--exitfirst", "--quiet", "-p", "no:cacheprovider", TESTS]
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        status = pytest.main(options)
    os._exit(status)


def main() -> None:
    os.chdir(ROOT)
    source = Path("cutwork/states.py").read_text(encoding="utf-8")
    if noticed(source):
        raise SystemExit("the tests fail without any mutation")
    tried = list(mutants(source))
    survivors = [said for said, mutant in tried if not noticed(mutant)]
    print(*(f"survives: {said}" for said in survivors), sep="\n")  # noqa: T201 - its output
    killed = len(tried) - len(survivors)
    print(f"{killed} of {len(tried)} noticed, {killed / len(tried):.0%}")  # noqa: T201
    sys.exit(killed < _BOUND * len(tried))


if __name__ == "__main__":
    main()
