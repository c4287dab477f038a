"""The Compose file: it is one, and every command, setting, secret and grace in it is meant."""

import os
import shutil
import stat
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from sqlalchemy.engine import make_url

from cutwork.cli.commands import cutwork
from cutwork.contradictions import contradictions
from cutwork.finding import FAULT
from cutwork.settings import PREFIX, Settings
from cutwork.worker.configuration import configuration
from tests.deployment import compose
from tests.deployment.command_line import ensure_taken
from tests.deployment.compose import COMPOSE, DOCKER, SECRETS, Service

VALIDATE = (
    Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec",
)  # fmt: skip
SANDBOX = DOCKER / "sandbox.env"
OURS = compose.ours()

each_of_ours = pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docker/secrets.sh makes, somewhere else."""
    place = tmp_path_factory.mktemp("docker")
    shutil.copy(DOCKER / "secrets.sh", place)
    subprocess.run(["sh", place / "secrets.sh"], check=True, capture_output=True)
    return place / "secrets"


def settings(service: Service, secrets: Path) -> Settings:
    """As the service reads them, with the files of its secrets where they are here."""
    environ = {
        name: str(secrets / service.secrets[value]) if value.startswith(SECRETS) else value
        for name, value in service.environment.items()
    }
    return Settings.load(environ)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.tls.yaml"])
def test_it_is_a_compose_file(name: str) -> None:
    done = subprocess.run([*VALIDATE, DOCKER / name], capture_output=True, check=False, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("stop_grace_period:", "stop_grace:"))

    done = subprocess.run([*VALIDATE, wrong], capture_output=True, check=False, text=True)

    assert done.returncode == 1
    assert "stop_grace" in done.stdout


@each_of_ours
def test_every_command_is_one_with_options_that_exist(service: Service) -> None:
    ensure_taken(service.spec["command"])


@each_of_ours
def test_every_command_is_listed_by_help(service: Service) -> None:
    listed = cutwork.get_help(click.Context(cutwork, info_name="cutwork"))

    assert f"\n  {service.spec['command'][0]} " in listed


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for words in (["workers"], ["webhook", "--port", "1"], ["worker", "--pool=gevent"], ["db"]):
        with pytest.raises(click.UsageError):
            ensure_taken(words)


@each_of_ours
@pytest.mark.parametrize("env_file", [None, SANDBOX], ids=["provider", "sandbox"])
def test_the_settings_of_every_service_are_taken(
    service: Service, env_file: Path | None, secrets: Path
) -> None:
    read = settings(compose.services(env_file)[service.name], secrets)

    assert len(read.api_tokens) == 1
    if service.name != "sandbox":
        assert read.storage == "file:///srv/cutwork"
        assert not [one for one in contradictions(read) if one.level == FAULT]


def test_with_the_sandbox_callbacks_come_through_nginx(secrets: Path) -> None:
    services = compose.services(SANDBOX)
    read = settings(services["worker"], secrets)
    (inside,) = compose.load()["networks"]["inside"]["ipam"]["config"]

    provider, public = urlsplit(read.api_url), urlsplit(read.public_url)
    assert provider.hostname == "sandbox"
    assert services["sandbox"].spec["command"][2].endswith(f":{provider.port}")
    assert public.hostname == "nginx"
    assert services["nginx"].spec["ports"][0].endswith(f":{public.port}")
    assert read.result_networks == (inside["subnet"],)


def test_no_other_service_is_behind_a_profile_than_those_that_can_be_done_without() -> None:
    optional = {name for name, one in compose.services().items() if "profiles" in one.spec}

    assert optional == {"sandbox"}


@each_of_ours
def test_every_setting_that_may_be_chosen_exists(service: Service) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {f"{name}_FILE" for name in known}

    assert set(service.environment) <= known


def test_everything_that_may_be_chosen_is_a_setting_of_the_same_name() -> None:
    chosen = {line.strip() for line in COMPOSE.read_text().splitlines() if "${" in line}

    assert chosen
    for line in chosen:
        name, _, value = line.partition(": ")
        assert value.startswith(f"${{{name}:-")


def test_how_long_things_are_kept_can_be_chosen_where_nothing_else_deletes() -> None:
    commands = [one.spec.get("command", []) for one in compose.services().values()]
    kept = {f"{PREFIX}KEEP_{name}" for name in ("INPUTS", "RESULTS", "JOBS")}

    assert not any("purge" in command for command in commands)
    assert kept <= set(compose.services()["reconciler"].environment)


@pytest.mark.parametrize("service", compose.services().values(), ids=lambda one: one.name)
def test_the_secrets_that_a_service_is_given_are_those_that_it_reads(service: Service) -> None:
    read = {value for value in service.environment.values() if value.startswith(SECRETS)}
    given = {place for place in service.secrets if place.startswith(SECRETS)}

    assert read == given
    assert set(service.secrets.values()) <= set(compose.load()["secrets"])


def test_every_secret_is_a_file_that_the_script_makes(secrets: Path) -> None:
    named = {Path(one["file"]).name for one in compose.load()["secrets"].values()}

    assert named | {"broker-password"} == {path.name for path in secrets.iterdir()}


def test_secrets_are_readable_inside_and_nowhere_else(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}


def test_secrets_that_exist_are_kept(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}

    again = subprocess.run(
        ["sh", secrets.parent / "secrets.sh"], check=True, capture_output=True, text=True
    )

    assert again.stdout == ""
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before


def test_database_and_broker_are_told_the_passwords_that_the_roles_use(secrets: Path) -> None:
    services = compose.services()
    database = make_url((secrets / "database-url").read_text().strip())
    broker = urlsplit((secrets / "broker-url").read_text().strip())

    assert database.host in services
    assert database.password == (secrets / "database-password").read_text()
    assert database.username == services["postgres"].environment["POSTGRES_USER"]
    assert database.database == services["postgres"].environment["POSTGRES_DB"]
    assert broker.hostname == services["rabbitmq"].spec["hostname"]
    assert f"default_pass = {broker.password}\n" in (secrets / "rabbitmq.conf").read_text()


def test_what_depends_on_something_depends_on_what_exists_and_not_in_a_circle() -> None:
    services = compose.services()
    needs = {name: set(one.spec.get("depends_on", {})) for name, one in services.items()}

    assert set.union(*needs.values()) <= set(services)
    order = list(TopologicalSorter(needs).static_order())
    for role in ("worker", "reconciler", "webhook"):
        assert order.index("postgres") < order.index("migrate") < order.index(role)
        assert services[role].spec["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }


def test_whoever_is_waited_for_to_be_healthy_has_a_check() -> None:
    services = compose.services()
    for service in services.values():
        for name, how in service.spec.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[name].spec["healthcheck"]["test"][0] == "CMD"


def test_there_are_two_workers_and_two_reconcilers() -> None:
    services = compose.services()

    assert (services["worker"].replicas, services["reconciler"].replicas) == (2, 2)


def test_a_worker_is_given_longer_than_it_needs_to_drain(secrets: Path) -> None:
    worker = compose.services()["worker"]
    read = settings(worker, secrets)

    assert worker.grace > configuration(read)["worker_soft_shutdown_timeout"]
    assert worker.grace > read.submit_timeout + 10


def test_a_worker_has_room_for_the_results_that_pass_through_it(secrets: Path) -> None:
    worker = compose.services()["worker"]
    read = settings(worker, secrets)
    (mount,) = worker.spec["tmpfs"]
    room = int(mount.removeprefix("/tmp:size=").removesuffix("m")) * 2**20  # noqa: S108
    memory = int(worker.spec["deploy"]["resources"]["limits"]["memory"].removesuffix("M")) * 2**20

    assert room > read.store_lane * read.result_max_bytes
    assert memory > room + 108e6  # what a busy worker was measured with


@each_of_ours
def test_a_role_can_write_to_little_and_become_nobody_else(service: Service) -> None:
    spec = service.spec

    assert spec["read_only"] is True
    assert spec["init"] is True
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in spec
    assert "privileged" not in spec


def test_what_runs_on_is_started_again_and_bounded() -> None:
    for name, service in compose.services().items():
        lasting = name != "migrate"
        assert service.spec["restart"] == ("unless-stopped" if lasting else "no")
        if service.ours and lasting:
            limits = service.spec["deploy"]["resources"]["limits"]
            assert set(limits) == {"cpus", "memory"}


def test_what_is_published_is_published_on_loopback_and_the_proxy_alone_hears_strangers() -> None:
    published = {name: one.spec["ports"] for name, one in compose.services().items()
                 if "ports" in one.spec}  # fmt: skip

    assert set(published) == {"console", "metrics", "nginx"}
    assert all(one.startswith("127.0.0.1:") for ports in published.values() for one in ports)
    with_tls = compose.load(path=DOCKER / "compose.tls.yaml")["services"]
    assert {name for name, one in with_tls.items() if "ports" in one} == {"nginx"}


def test_the_proxy_reaches_the_webhook_and_no_database() -> None:
    services = compose.services()
    on = {name: set(one.spec["networks"]) for name, one in services.items()}

    assert on["nginx"] & on["webhook"] == {"edge"}
    assert not on["nginx"] & (on["postgres"] | on["rabbitmq"])


def test_every_file_that_is_mounted_exists() -> None:
    for name in ("compose.yaml", "compose.tls.yaml"):
        for service in compose.load(path=DOCKER / name)["services"].values():
            here = [one for one in service.get("volumes", []) if one.startswith(".")]
            assert not [one for one in here if not (DOCKER / one.split(":")[0]).exists()]


def test_the_script_can_be_run() -> None:
    assert os.access(DOCKER / "secrets.sh", os.X_OK)
