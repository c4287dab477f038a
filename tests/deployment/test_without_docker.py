"""The image and the Compose file without Docker: the very same commands, in another place.

What the Dockerfile runs is run in an empty directory, and what the Compose file starts is started
from there, with its settings and the files of its secrets. Only places are exchanged: directories,
and hosts with their ports. Not the same are the user, the base image and the networks.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from packaging.utils import canonicalize_name
from PIL import Image

from cutwork import database, jobs
from cutwork.job import Job
from tests.deployment import compose, dockerfile
from tests.deployment.compose import DOCKER, ROOT, SECRETS, Service
from tests.deployment.dockerfile import Instruction, Stage
from tests.deployment.test_dockerfile import let_in
from tests.services.ports import HOST, free_port
from tests.services.processes import Process, Processes
from tests.services.registry import Services
from tests.services.waiting import run_until
from tests.test_tooling import pins

pytestmark = [pytest.mark.long, pytest.mark.no_cover, pytest.mark.timeout(300)]

PHOTOGRAPH = ROOT / "cutwork" / "cli" / "photographs" / "coffee.png"
DIRECTORIES = ("/build", "/opt/cutwork", "/srv/cutwork", "/var/lib/cutwork", "/tmp")  # noqa: S108
INHERITED = re.compile(r"CUTWORK_|COV|PIP_CONSTRAINT|PYTHON|VIRTUAL_ENV")


@dataclass(frozen=True)
class Built:
    """What the image would hold, below ``root``."""

    root: Path
    build: Stage
    image: Stage

    def here(self, text: str) -> str:
        """The same text with directories below ``root``."""
        return re.sub(
            rf"(?<![\w.])({'|'.join(DIRECTORIES)})(?=[/:\s\"]|$)", rf"{self.root}\1", text
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets, over what it inherits."""
        inherited = {k: v for k, v in os.environ.items() if not INHERITED.match(k)}
        inherited["TMPDIR"] = self.here("/tmp")  # noqa: S108
        own = {name: self.here(value) for name, value in self.image.environment.items()}
        own["PATH"] = own["PATH"].replace("${PATH}", inherited["PATH"])
        return inherited | own

    @property
    def entry_point(self) -> list[str]:
        return list(json.loads(self.image.last("ENTRYPOINT").rest))


def build(root: Path) -> Built:
    """Do what the Dockerfile's first stage says, and of the second what needs no other user."""
    made = Built(root, *dockerfile.read(DOCKER / "Dockerfile"))
    for directory in DIRECTORIES:
        Path(made.here(directory)).mkdir(parents=True)
    environ = {k: v for k, v in os.environ.items() if not INHERITED.match(k)}
    environ |= made.build.environment | {"PATH": f"{_base(root)}{os.pathsep}{os.environ['PATH']}"}
    place = root
    for one in made.build.instructions:
        match one.keyword:
            case "WORKDIR":
                place = Path(made.here(one.rest))
            case "COPY":
                _copy(one, place)
            case "RUN":
                done = subprocess.run(
                    ["sh", "-c", made.here(one.rest)],
                    cwd=place, env=environ, capture_output=True, check=False, text=True,
                )  # fmt: skip
                assert done.returncode == 0, done.stdout + done.stderr
    copied = [one.words for one in made.image.all("COPY")]
    assert copied == [["/opt/cutwork", "/opt/cutwork"]], "it is where it was built"
    return made


def _base(root: Path) -> Path:
    """A directory that has ``python``, as the base image has it on its PATH."""
    programs = root / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(os.path.realpath(sys.executable))
    return programs


def _copy(one: Instruction, place: Path) -> None:
    source, target = one.words
    for folder, folders, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if let_in(str(inside / name))]
        for name in files:
            path = inside / name
            if let_in(str(path)) and (source == "." or str(path) == source):
                copy = place / target / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, copy)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    root = tmp_path_factory.mktemp("image")
    yield build(root)
    shutil.rmtree(root)


@dataclass
class Company:
    """The services of the Compose file with the sandbox, started by hand."""

    built: Built
    processes: Processes
    secrets: Path
    services: dict[str, Service]
    ports: dict[str, int]
    started: list[tuple[Service, Process]] = field(default_factory=list)

    def here(self, text: str) -> str:
        """Directories, secrets and addresses where they are here; nginx is left out."""
        text = self.built.here(text).replace(SECRETS, f"{self.secrets}/")
        text = text.replace("nginx:8080", "webhook:8000")
        for port, free in self.ports.items():
            text = re.sub(rf"\b(0\.0\.0\.0|127\.0\.0\.1|webhook|sandbox):{port}\b",
                          f"{HOST}:{free}", text)  # fmt: skip
        return text

    def environment(self, service: Service) -> dict[str, str]:
        own = {name: self.here(value) for name, value in service.environment.items()}
        return self.built.environment | own

    def start(self, name: str, command: list[str] | None = None) -> Process:
        """One container of a service."""
        service = self.services[name]
        words = [self.here(word) for word in command or service.spec["command"]]
        process = self.processes.start(
            *self.built.entry_point, *words, name=name, env=self.environment(service),
            cwd=Path(self.built.here(self.built.image.last("WORKDIR").rest)),
        )  # fmt: skip
        self.started.append((service, process))
        return process

    def run(self, *words: str) -> str:
        """What ``docker compose run worker WORDS`` prints."""
        process = self.start("worker", list(words))
        self.started.pop()
        assert process.wait(60) == 0, process.log
        return process.log

    def is_healthy(self, name: str) -> bool:
        """What Docker finds by the service's health check."""
        kind, *words = self.services[name].spec["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            [self.here(word) for word in words], env=self.environment(self.services[name]),
            capture_output=True, check=False, timeout=30,
        )  # fmt: skip
        return done.returncode == 0

    def job(self, job_id: str) -> Job:
        engine = database.engine((self.secrets / "database-url").read_text())
        try:
            with engine.connect() as tx:
                return jobs.get(tx, job_id)
        finally:
            engine.dispose()


@pytest.fixture
def company(built: Built, processes: Processes, services: Services, tmp_path: Path) -> Company:
    database, broker = services.empty("postgresql"), services.empty("rabbitmq")
    shutil.copy(DOCKER / "secrets.sh", tmp_path)
    subprocess.run(["sh", tmp_path / "secrets.sh"], check=True, capture_output=True)
    (tmp_path / "secrets" / "database-url").write_text(database)
    (tmp_path / "secrets" / "broker-url").write_text(broker)
    return Company(
        built,
        processes,
        tmp_path / "secrets",
        compose.services(DOCKER / "sandbox.env"),
        {port: free_port() for port in ("8000", "8600", "8700")},
    )


def files(root: Path) -> set[Path]:
    """Every file but those that are there only while something runs."""
    found = set()
    with suppress(FileNotFoundError):
        found = {path for path in root.rglob("*") if path.is_file()}
    return found


def test_the_image_has_what_is_pinned_and_nothing_to_install_with(built: Built) -> None:
    (site,) = (built.root / "opt" / "cutwork" / "lib").glob("python3.*/site-packages")
    installed = dict(path.name[:-10].rsplit("-", 1) for path in site.glob("*.dist-info"))
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    version = versions.pop("cutwork")

    assert (
        version
        == dict(word.split("=", 1) for one in built.image.all("LABEL") for word in one.words)[
            "org.opencontainers.image.version"
        ]
    )
    known = pins()
    assert not {name for name in versions if not known[name].specifier.contains(versions[name])}
    assert {"celery", "granian", "opencv-python-headless", "psycopg", "redis"} <= set(versions)
    assert not {"pip", "setuptools"} & set(versions)
    assert not list((built.root / "opt" / "cutwork" / "bin").glob("pip*"))


def test_a_photograph_is_cut_out_and_every_role_ends_in_good_order(company: Company) -> None:
    before = files(company.built.root)
    picture = "/tmp/coffee.png"  # noqa: S108 - where a container would have it
    shutil.copy(PHOTOGRAPH, company.built.here(picture))

    assert company.start("migrate").wait(60) == 0
    company.started.clear()
    for name in ("sandbox", "webhook", "worker", "reconciler", "console"):
        for _ in range(company.services[name].replicas):
            company.start(name)
    for name in ("sandbox", "webhook", "console"):
        run_until(lambda one=name: company.is_healthy(one), 60, f"{name} is healthy")

    # A picture comes home, and it was a callback that said so.
    (job_id,) = company.run("enqueue", picture, "--type", "object").split()
    run_until(lambda: company.job(job_id).state == "succeeded", 60, "the job succeeds")
    job = company.job(job_id)
    assert job.decided_by == "callback"
    image = Path(urlsplit(str(job.image)).path)
    assert image.is_relative_to(company.built.here("/srv/cutwork"))
    with Image.open(image) as cut_out:
        assert cut_out.mode == "RGBA"

    # Everybody is told to end while a submit is on its way.
    provider = f"http://{HOST}:{company.ports['8600']}"
    slow = {"rates": {"slow_everything": 1}, "values": {"slow_everything": 3}}
    assert requests.post(f"{provider}/_sandbox/faults", json=slow, timeout=10).ok
    (job_id,) = company.run("enqueue", picture, "--type", "object").split()
    run_until(lambda: company.job(job_id).state == "submitting", 30, "the job is being sent")
    for role in ("worker", "reconciler", "console", "webhook", "sandbox"):
        leaving = [one for one in company.started if one[0].name == role]
        for _, process in leaving:
            process.signal(signal.SIGTERM)
        for service, process in leaving:
            assert process.wait(service.grace) == 0, process.tail()
    job = company.job(job_id)
    assert [one.state for one in job.attempts] == ["accepted"], "the submit was finished"

    # A read-only file system is enough: nothing was written but results.
    written = files(company.built.root) - before
    places = {path.relative_to(company.built.root).parts[0] for path in written}
    assert "srv" in places
    assert places <= {"srv", "tmp"}
