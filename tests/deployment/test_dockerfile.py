"""The image's recipe: two stages, nobody is root in it, and signals arrive."""

import json
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

from tests.deployment import dockerfile
from tests.deployment.compose import DOCKER, ROOT
from tests.deployment.dockerfile import Stage

RECIPE = DOCKER / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")
IGNORE = DOCKER / "Dockerfile.dockerignore"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHELLS = ("apt", "apt-get", "curl", "gcc", "make", "pip", "wget")


def stages() -> tuple[Stage, Stage]:
    build, image = dockerfile.read(RECIPE)
    return build, image


def let_in(path: str) -> bool:
    """Whether the build gets this path of the repository: the last line that fits decides."""
    lines = IGNORE.read_text(encoding="utf-8").split("\n")
    taken = True
    for line in filter(lambda line: line and not line.startswith("#"), lines):
        pattern = line.removeprefix("!")
        whole = Path(path)
        names = [str(one) for one in (whole, *whole.parents)]
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in whole.parts)
        else:
            fits = any(fnmatch(name, pattern) for name in names)
        if fits:
            taken = line.startswith("!")
    return taken


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(
        [HADOLINT, "--failure-threshold", "style", RECIPE],
        capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python\nRUN cd / && pip install cutwork\nCMD cutwork worker\n")

    done = subprocess.run([HADOLINT, careless], capture_output=True, check=False, text=True)

    assert done.returncode == 1
    assert {"DL3006", "DL3013", "DL3025"} <= set(re.findall(r"\b[DS][LC]\d{4}\b", done.stdout))


def test_the_image_is_the_second_of_two_stages_on_the_same_base() -> None:
    build, image = stages()

    assert (build.name, image.name) == ("build", "")
    assert build.base == image.base
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", image.base)
    (copied,) = image.all("COPY")
    assert copied.flags == ("--from=build",)


def test_the_base_is_a_python_that_the_project_takes() -> None:
    _, image = stages()
    found = re.search(r"3\.\d+", image.base)

    assert found
    assert f"Programming Language :: Python :: {found[0]}" in PROJECT["project"]["classifiers"]


def test_nothing_is_fetched_or_built_in_the_last_stage() -> None:
    _, image = stages()
    words = {Path(word).name for run in image.all("RUN") for word in run.words}

    assert not words & set(SHELLS)


def test_nothing_is_added_from_elsewhere() -> None:
    for stage in stages():
        assert not stage.all("ADD")
        assert not [one for one in stage.all("COPY") if "://" in one.rest]


def test_the_process_is_nobody_in_particular_and_hears_signals_itself() -> None:
    _, image = stages()
    (user,) = image.all("USER")
    made = " ".join(run.rest for run in image.all("RUN"))
    uid, _, gid = user.rest.partition(":")

    assert int(uid) >= 10_000
    assert int(gid) >= 10_000
    assert f"useradd --uid {uid} --gid {gid}" in made
    assert image.instructions.index(user) > image.instructions.index(image.last("COPY"))
    assert json.loads(image.last("ENTRYPOINT").rest) == ["cutwork"]
    assert json.loads(image.last("CMD").rest) == ["--help"]
    assert image.last("STOPSIGNAL").rest == "SIGTERM"


def test_no_health_check_is_claimed_for_every_role() -> None:
    _, image = stages()

    assert image.last("HEALTHCHECK").rest == "NONE"


def test_the_label_tells_the_packages_version() -> None:
    _, image = stages()
    labels = dict(word.split("=", 1) for one in image.all("LABEL") for word in one.words)

    assert labels["org.opencontainers.image.version"] == version("cutwork")
    assert labels["org.opencontainers.image.description"] == PROJECT["project"]["description"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]


def test_the_build_gets_all_that_is_installed() -> None:
    folders = PROJECT["tool"]["setuptools"]["package-dir"].values()
    needed = {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"], "LICENSE"}
    needed |= {
        os.path.relpath(path, ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert not [path for path in sorted(needed) if not let_in(path)]


def test_the_build_gets_no_secret_no_history_and_no_rubbish() -> None:
    kept_out = (
        ".git/config", ".env", ".venv/bin/python", ".cutwork/callback-secret", "docker/.env",
        "docker/secrets/api-tokens", "tests/conftest.py", "cutwork/__pycache__/log.cpython-311.pyc",
    )  # fmt: skip

    assert not [path for path in kept_out if let_in(path)]
