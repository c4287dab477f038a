"""The manifests: they fit their schemas, and what they start, ask and count is there."""

import re
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import create_engine, text

from cutwork import database, jobs
from cutwork.migrations.upgrade import upgrade
from cutwork.settings import PREFIX, Settings
from cutwork.webhook import app
from cutwork.worker.configuration import configuration
from tests.deployment import dockerfile
from tests.deployment.command_line import ensure_taken
from tests.deployment.compose import DOCKER, compose_image

MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))
OLDEST, NEWEST = "1.29", "1.34"


def documents() -> list[dict[str, Any]]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text("utf-8"))]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, pod's spec) of whatever starts one."""
    for one in documents():
        match one["kind"]:
            case "Deployment" | "Job":
                yield one["metadata"]["name"], one["spec"]["template"]["spec"]
            case "CronJob":
                template = one["spec"]["jobTemplate"]["spec"]["template"]
                yield one["metadata"]["name"], template["spec"]


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        one for one in documents() if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return found


PODS = dict(pods())
each_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("document", documents(), ids=lambda one: one["kind"])
def test_a_manifest_fits_its_schema(document: dict[str, Any], release: str) -> None:
    if document["apiVersion"].startswith("keda.sh/"):
        assert document["kind"] in ("ScaledObject", "TriggerAuthentication")
        return
    kubernetes_validate.validate(document, release, strict=True)


def test_a_misspelt_field_would_be_noticed() -> None:
    wrong = the("Deployment", "cutwork-worker")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 90

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@each_pod
def test_every_command_is_one_with_options_that_exist(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]

    assert "command" not in container, "the image's own entry point hears the signals"
    ensure_taken(container["args"])


@each_pod
def test_every_pod_runs_the_image_that_compose_builds(pod: dict[str, Any]) -> None:
    assert pod["containers"][0]["image"] == compose_image()


@each_pod
def test_a_pod_is_nobody_who_can_write_to_little(pod: dict[str, Any]) -> None:
    _, image = dockerfile.read(DOCKER / "Dockerfile")
    uid, _, gid = image.last("USER").rest.partition(":")
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsUser"] == int(uid)
    assert pod["securityContext"]["runAsGroup"] == pod["securityContext"]["fsGroup"] == int(gid)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp"}  # noqa: S108
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in pod["volumes"]
    }


def test_the_settings_are_taken_and_their_files_mounted(tmp_path: Path) -> None:
    environ: dict[str, str] = the("ConfigMap", "cutwork")["data"]
    (mount,) = {
        mount["mountPath"]
        for pod in PODS.values()
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] == "secrets"
    }
    here = {}
    for name, value in environ.items():
        if name.endswith("_FILE"):
            place = tmp_path / Path(value).relative_to(mount)
            place.write_text("postgresql://shop@db.internal/shop\n")
            value = str(place)
        here[name] = value

    read = Settings.load(here)

    assert all((read.database_url, read.broker_url, read.api_tokens, read.callback_secrets))
    assert not read.storage.startswith("file:"), "pods share no disk"


@each_pod
def test_no_service_becomes_a_variable_that_is_no_setting(pod: dict[str, Any]) -> None:
    """Kubernetes sets NAME_SERVICE_HOST … for every Service; an unknown setting is refused."""
    names = [one["metadata"]["name"] for one in documents() if one["kind"] == "Service"]

    assert pod["enableServiceLinks"] is False
    assert names
    assert not [name for name in names if name.upper().replace("-", "_").startswith(PREFIX)]


def test_the_webhook_answers_where_it_is_probed() -> None:
    (container,) = PODS["cutwork-webhook"]["containers"]
    (port,) = container["ports"]
    probes = {name: probe["httpGet"] for name, probe in container.items() if "Probe" in name}

    assert container["args"][-1].endswith(f":{port['containerPort']}")
    assert {name: one["path"] for name, one in probes.items()} == {
        "startupProbe": "/readyz", "readinessProbe": "/healthz", "livenessProbe": "/healthz",
    }  # fmt: skip
    assert {one["path"].strip("/") for one in probes.values()} <= set(app._METHODS)
    assert {one["port"] for one in probes.values()} == {port["name"]}
    service = the("Service", "callbacks")["spec"]
    labels = the("Deployment", "cutwork-webhook")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == port["name"]


def test_whoever_must_go_has_the_time_to_finish() -> None:
    grace = {name: pod.get("terminationGracePeriodSeconds", 30) for name, pod in PODS.items()}
    (webhook,) = PODS["cutwork-webhook"]["containers"]
    pause = int(webhook["lifecycle"]["preStop"]["exec"]["command"][1])

    assert grace["cutwork-worker"] > configuration(Settings())["worker_soft_shutdown_timeout"]
    assert grace["cutwork-webhook"] > pause + app._ANSWER_WITHIN + 5


def test_a_worker_has_room_for_the_results_that_pass_through_it() -> None:
    lane = int(the("ConfigMap", "cutwork")["data"]["CUTWORK_STORE_LANE"])
    (tmp,) = (one for one in PODS["cutwork-worker"]["volumes"] if one["name"] == "tmp")

    assert tmp["emptyDir"]["sizeLimit"] == "1Gi"
    assert min(lane, Settings().concurrency) * Settings().result_max_bytes < 2**30


def test_a_disruption_leaves_one_of_each_role() -> None:
    for role in ("worker", "reconciler", "webhook"):
        deployment = the("Deployment", f"cutwork-{role}")["spec"]
        budget = the("PodDisruptionBudget", f"cutwork-{role}")["spec"]
        assert budget["selector"] == deployment["selector"]
        assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
        assert budget["minAvailable"] == 1 < deployment["replicas"]


def test_what_workers_are_scaled_by_is_what_wants_a_thread(
    empty_database: Callable[[str], str],
) -> None:
    url = empty_database("postgresql")
    engine = database.engine(url)
    upgrade(engine)
    with engine.begin() as tx:
        for number in range(3):
            jobs.enqueue(tx, image_url=f"https://shop.example/{number}.jpg")
        tx.execute(text("UPDATE cutwork_job SET lease = 'message' WHERE id ="
                        " (SELECT id FROM cutwork_job LIMIT 1)"))  # fmt: skip
    engine.dispose()
    (trigger,) = the("ScaledObject", "cutwork-worker")["spec"]["triggers"]

    plain = create_engine(url)
    with plain.connect() as connection:
        counted = connection.execute(text(trigger["metadata"]["query"])).scalar_one()
    plain.dispose()

    assert counted == 1


def test_scaling_counts_on_what_exists_and_goes_no_further_than_is_of_use() -> None:
    spec = the("ScaledObject", "cutwork-worker")["spec"]
    (trigger,) = spec["triggers"]
    authentication = the("TriggerAuthentication", trigger["authenticationRef"]["name"])
    (reference,) = authentication["spec"]["secretTargetRef"]
    told = the("ConfigMap", "cutwork")["data"]
    files = {Path(value).name for name, value in told.items() if name.endswith("_FILE")}
    worker = the("Deployment", spec["scaleTargetRef"]["name"])
    chosen = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in told.items()
        if not name.endswith("_FILE")
    }
    read = Settings.of(**chosen)
    lanes = read.submit_lane + read.check_lane + read.store_lane + read.notify_lane

    assert spec["maxReplicaCount"] == ceil(lanes / read.concurrency) + 1
    assert spec["minReplicaCount"] == worker["spec"]["replicas"]
    assert reference["key"] in files
    assert 0 < int(trigger["metadata"]["targetQueryValue"]) <= Settings().concurrency


def test_the_migration_is_a_job_of_its_version() -> None:
    (job,) = (one for one in documents() if one["kind"] == "Job")
    (version,) = re.findall(r"^cutwork-migrate-(.+)$", job["metadata"]["name"])

    assert job["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{version}")
