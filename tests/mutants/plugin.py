"""Runs tests on a mutated product: ``pytest -p tests.mutants.plugin --mutant NAME NODEID``.

One module's source is changed while it is imported; no file is. Processes that a test starts are
not mutated, so a mutant has to be noticed by a test that runs the code itself.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

import pytest

from tests.mutants.mutations import MUTATIONS, Mutation

_hook = pytest.StashKey["Hook"]()


class Mutated(SourceFileLoader):
    """Compiles the changed source, and neither reads nor writes compiled code."""

    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path).decode("utf-8")
        return compile(self._mutation.applied(source), path, "exec", dont_inherit=True)


class Hook(MetaPathFinder):
    """Asks the other finders where the module is, for the roles live in folders of their own."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation
        self.used = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutation.module:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.origin is not None:
                spec.loader = Mutated(fullname, spec.origin, self._mutation)
                self.used = True
                return spec
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", choices=[one.name for one in MUTATIONS])


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest: they import the product."""
    name = early_config.known_args_namespace.mutant
    if name is None:
        return
    (mutation,) = (one for one in MUTATIONS if one.name == name)
    if mutation.module in sys.modules:
        raise pytest.UsageError(f"{mutation.module} was imported before it could be mutated")
    early_config.stash[_hook] = Hook(mutation)
    sys.meta_path.insert(0, early_config.stash[_hook])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    hook = session.config.stash.get(_hook, None)
    if hook is not None and not hook.used:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
