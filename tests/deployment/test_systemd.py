"""The units: systemd takes them, each runs a command that exists, and has time to stop."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cutwork.settings import Settings
from cutwork.worker.configuration import configuration
from tests.deployment.command_line import ensure_taken
from tests.deployment.compose import DOCKER, read_env, seconds
from tests.services.registry import Services

UNITS = DOCKER / "systemd"
COMMON = UNITS / "cutwork-.service.d" / "common.conf"
SERVICES = sorted(UNITS.glob("cutwork-*.service"))
PROGRAM = "/opt/cutwork/bin/cutwork"
# What `systemd-analyze security` gives an unprotected service is 9.6.
EXPOSED_AT_MOST = 2.0

each_service = pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)


def values(unit: Path, name: str) -> list[str]:
    """All that a unit says of a name, in order."""
    found = re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return [value.strip() for value in found]


def analyze(services: Services, *words: str | Path) -> subprocess.CompletedProcess[str]:
    program = services.program("systemd-analyze")
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{UNITS}:", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        [program, *words], env=environ, capture_output=True, check=False, text=True
    )


def installed(tmp_path: Path) -> Path:
    """The units as they are installed, but with a program that exists here."""
    folder = tmp_path / "units"
    program = tmp_path / "cutwork"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (path for path in UNITS.rglob("*") if path.is_file()):
        copy = folder / path.relative_to(UNITS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace(PROGRAM, str(program)))
    return folder


def test_systemd_takes_every_unit(services: Services, tmp_path: Path) -> None:
    folder = installed(tmp_path)
    units = [
        path.with_name(path.name.replace("@.", "@1."))
        for path in sorted(folder.iterdir())
        if path.suffix in (".service", ".timer", ".target")
    ]
    (folder / "cutwork-worker@1.service").symlink_to(folder / "cutwork-worker@.service")

    done = analyze(services, "verify", "--man=no", *units)

    # What it says of the machine's own units is not about ours.
    ours = [line for line in done.stderr.splitlines() if "cutwork" in line]
    assert (done.returncode, ours) == (0, [])


def test_systemd_would_notice_a_misspelt_line(services: Services, tmp_path: Path) -> None:
    unit = installed(tmp_path) / "cutwork-reconciler.service"
    unit.write_text(unit.read_text().replace("TimeoutStopSec=20s", "TimeoutStop=20s"))

    done = analyze(services, "verify", "--man=no", unit)

    assert "TimeoutStop" in done.stderr


@each_service
def test_a_unit_is_hardly_exposed(services: Services, unit: Path) -> None:
    whole = unit.name.replace("@.", "@1.")
    done = analyze(services, "security", "--offline=true", "--no-pager", whole)

    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSED_AT_MOST


@each_service
def test_every_command_is_one_with_options_that_exist(unit: Path) -> None:
    (line,) = values(unit, "ExecStart")
    program, *words = shlex.split(line.replace("%%", "%"))

    assert program == PROGRAM
    ensure_taken(words)


def test_the_settings_of_the_units_are_taken(tmp_path: Path) -> None:
    environ = read_env(UNITS / "cutwork.env")
    names = {line.split(":")[0] for line in values(COMMON, "LoadCredential")}
    for name in names:
        (tmp_path / name).write_text("postgresql://shop@db.internal/shop\n")
    (line,) = (one for one in values(COMMON, "Environment") if "HOME" in one)
    environ |= dict([line.split("=", 1)])
    for variable in values(COMMON, "Environment"):
        name, _, value = variable.partition("=")
        if value.startswith("%d/"):
            assert value[3:] in names
            environ[name] = value.replace("%d", str(tmp_path))

    read = Settings.load(environ)

    assert read.storage == "file:///srv/cutwork"
    assert all((read.database_url, read.broker_url, read.api_tokens, read.callback_secrets))
    assert values(COMMON, "ReadWritePaths") == ["-" + read.storage.removeprefix("file://")]
    assert values(COMMON, "StateDirectory") == [read.home.name]


def test_a_worker_is_given_longer_than_it_needs_to_drain() -> None:
    unit = UNITS / "cutwork-worker@.service"
    (grace,) = map(seconds, values(unit, "TimeoutStopSec"))

    assert grace > configuration(Settings())["worker_soft_shutdown_timeout"]
    assert values(unit, "KillMode") == ["mixed"], "a pool is ended by the worker, not beside it"


@pytest.mark.parametrize(
    "name",
    [
        "cutwork-console",
        "cutwork-metrics",
        "cutwork-worker@",
        "cutwork-reconciler",
        "cutwork-webhook",
    ],
)
def test_a_role_is_started_again_unless_it_is_used_wrongly(name: str) -> None:
    unit = UNITS / f"{name}.service"

    assert values(unit, "Restart") == ["always"]
    assert values(unit, "RestartPreventExitStatus") == ["2"]
    assert values(unit, "PartOf") == values(unit, "WantedBy") == ["cutwork.target"]


def test_no_secret_is_in_the_environment_file() -> None:
    secret = {
        f"CUTWORK_{name.upper()}"
        for name, item in Settings.__dataclass_fields__.items()
        if item.metadata["secret"] and name != "storage_url"
    }

    assert not set(read_env(UNITS / "cutwork.env")) & secret
