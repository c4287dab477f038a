"""What is installed: the declared packages, all their files, one top-level name, and it runs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cutwork

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: Mapping[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
VERSION: str = PROJECT["project"]["version"]
ROLES = sorted(folder for name, folder in FOLDERS.items() if name != "cutwork")
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".cutwork", ".hypothesis", "__pycache__", "*.egg-info",
    "build", "dist", "demo-output",
)  # fmt: skip
# What an app that only enqueues must not pay for.
HEAVY = (
    "alembic", "celery", "click", "cv2", "granian", "kombu", "numpy", "obstore", "PIL",
    "opentelemetry", "prometheus_client", "requests", "rich", "urllib3",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """The files that `python -m build` makes."""

    sdist: Path
    wheel: Path  # built from the sdist, as an index serves it
    direct_wheel: Path  # built from the checkout, as `pip install .` does


def run(*words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What a program prints; what it complains about, if it fails."""
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(wheel: Path) -> dict[str, bytes]:
    """Path → bytes of every file of a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built from a copy, so that the checkout gets no build folder."""
    top = tmp_path_factory.mktemp("build")
    source = shutil.copytree(ROOT, top / "source", ignore=NOT_SOURCE)
    pinned = {"PIP_CONSTRAINT": CONSTRAINTS.as_uri()}
    build = (sys.executable, "-m", "build")
    run(*build, "--outdir", top / "dist", cwd=source, env=pinned)
    run(*build, "--wheel", "--outdir", top / "direct", cwd=source, env=pinned)
    [sdist], [wheel] = (top / "dist").glob("*.tar.gz"), (top / "dist").glob("*.whl")
    [direct] = (top / "direct").glob("*.whl")
    return Built(sdist, wheel, direct)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, without extras, and nothing else."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--constraint", CONSTRAINTS, built.wheel, cwd=home,
    )  # fmt: skip
    return python.parent


def test_every_package_is_declared() -> None:
    found = {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for name, folder in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }

    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_imported_by_its_folder_says_its_real_name(role: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-c", f"import {role}"],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last == f"ImportError: {role} is cutwork.{role} when imported"


def test_the_wheel_has_one_top_level_name(built: Built) -> None:
    names = {name.split("/")[0] for name in contents(built.wheel)}

    assert names == {"cutwork", f"cutwork-{VERSION}.dist-info"}


def test_the_wheel_has_every_file_of_every_package(built: Built) -> None:
    expected = {
        f"{name.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    packed = {name for name in contents(built.wheel) if name.startswith("cutwork/")}

    assert packed == expected
    assert "cutwork/migrations/env.py" in packed
    assert any(name.startswith("cutwork/migrations/versions/m0001") for name in packed)
    assert "cutwork/cli/photographs/astronaut.png" in packed


def test_a_wheel_from_the_sdist_equals_one_from_the_checkout(built: Built) -> None:
    assert contents(built.wheel) == contents(built.direct_wheel)


def test_the_sdist_carries_the_licence_and_the_readme(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    assert VERSION in run(installed / "cutwork", "--version", cwd=tmp_path)


def test_the_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "cutwork", "--help", cwd=tmp_path)

    listed = set(re.findall(r"^  ([a-z]+)\b", said, re.MULTILINE))
    assert {"up", "demo", "enqueue", "worker", "reconciler", "webhook", "sandbox", "db"} <= listed


def test_every_role_is_imported_from_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    names = sorted(FOLDERS)
    source = (
        f"import {', '.join(names)}; print({', '.join(f'{n}.__file__' for n in names)}, sep='\\n')"
    )

    places = run(installed / "python", "-c", source, cwd=tmp_path).splitlines()

    assert len(places) == len(names)
    assert all(Path(place).is_relative_to(installed.parent) for place in places)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_installed_under_its_generic_name(
    installed: Path, tmp_path: Path, role: str
) -> None:
    source = f"from importlib.util import find_spec; print(find_spec({role!r}))"

    assert run(installed / "python", "-c", source, cwd=tmp_path) == "None\n"


def test_an_app_is_checked_against_our_types_by_mypy(built: Built, tmp_path: Path) -> None:
    """The right uses pass under --strict, our examples too, and each wrong one is an error."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    [packages] = (tmp_path / "venv").glob("lib/python3*/site-packages")
    for name, data in contents(built.wheel).items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(data)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    app = tmp_path / "app"
    shutil.copytree(ROOT / "tests" / "consumer", app)
    for name in ("fastapi", "flask"):
        shutil.copy(ROOT / "examples" / name / "app.py", app / f"{name}_app.py")
    wrong = (app / "misuses.py").read_text(encoding="utf-8").splitlines()

    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "."],
        cwd=app, capture_output=True, check=False, text=True,
    ).stdout  # fmt: skip

    found = re.findall(r"^(\w+)\.py:(\d+): error: .+\[([\w-]+)\]$", said, re.MULTILINE)
    expected = [
        ("misuses", str(number), code)
        for number, line in enumerate(wrong, 1)
        for code in line.partition("# wrong: ")[2].split(", ")
        if code
    ]
    assert sorted(found) == sorted(expected), said
    exported = set(cutwork.__all__)
    used = set(re.findall(r"\w+", (app / "uses.py").read_text(encoding="utf-8")))
    assert exported <= used


@pytest.mark.parametrize(
    ("uses", "unwanted"),
    [
        ("import cutwork", (*HEAVY, "sqlalchemy")),
        ("import cutwork; [getattr(cutwork, name) for name in cutwork.__all__]", HEAVY),
        ("import cutwork.worker.main", ("obstore", "PIL", "requests", "sqlalchemy.orm")),
        ("import cutwork.worker.tasks", ("cv2", "granian", "numpy", "sqlalchemy.orm")),
    ],
    ids=["import", "use", "reconciler", "worker"],
)
def test_nobody_loads_what_he_does_not_use(
    tmp_path: Path, uses: str, unwanted: tuple[str, ...]
) -> None:
    source = f"{uses}; import sys; print(sorted(set({unwanted!r}) & set(sys.modules)))"

    assert run(sys.executable, "-c", source, cwd=tmp_path) == "[]\n"


def test_whatever_is_loaded_later_can_be_listed_and_what_is_not_there_is_missed() -> None:
    assert set(cutwork.__all__) <= set(dir(cutwork))
    with pytest.raises(AttributeError, match="module 'cutwork' has no attribute 'enqeue'"):
        cutwork.enqeue  # noqa: B018


# What each extra is for. The tests' own environment has everything, so the rest has to be hidden.
PARTS = {
    "": "cutwork.worker.main, cutwork.worker.tasks, kombu.transport.pyamqp, cutwork.cli.commands",
    "console": "cutwork.console.app, granian",
    "metrics": "cutwork.exporter",
    "mysql": "pymysql, cryptography",
    "postgresql": "psycopg",
    "redis": "kombu.transport.redis",
    "sandbox": "cutwork.sandbox.server, cutwork.sandbox.grabcut, cutwork.sandbox.form",
    "terminal": "rich.console",
    "tracing": "opentelemetry.trace, opentelemetry.instrumentation.auto_instrumentation",
    "webhook": "cutwork.webhook.app, granian",
}
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, Hidden())
"""


def installed_with(extra: str) -> set[str]:
    """The distributions that ``pip install cutwork[extra]`` brings."""
    found: set[tuple[str, str]] = set()
    wanted = [("cutwork", one) for one in ("", extra)]
    while wanted:
        name, option = wanted.pop()
        if (name, option) in found:
            continue
        found.add((name, option))
        for line in distribution(name).requires or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": option}):
                wanted += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
    return {name for name, _ in found}


def test_every_extra_is_tried() -> None:
    assert set(PARTS) == {"", *PROJECT["project"]["optional-dependencies"]} - {"all"}


@pytest.mark.parametrize("extra", PARTS)
def test_an_extra_brings_all_that_its_part_imports(extra: str, tmp_path: Path) -> None:
    there = installed_with(extra)
    hidden = {
        module
        for module, owners in packages_distributions().items()
        if not there.intersection(map(canonicalize_name, owners))
    }
    assert {"pytest", "packaging"} - there <= hidden

    run(sys.executable, "-c", f"{HIDING.replace('HIDDEN', repr(hidden))}import {PARTS[extra]}",
        cwd=tmp_path)  # fmt: skip
