"""The Compose file as data, as far as the tests need it: merged, and its variables filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
SECRETS = "/run/secrets/"


@dataclass(frozen=True)
class Service:
    name: str
    spec: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether it runs the image that we build."""
        return "build" in self.spec

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.spec.get("environment", {}))

    @property
    def secrets(self) -> dict[str, str]:
        """Where each secret is found in the container → its name."""
        found = {}
        for one in self.spec.get("secrets", []):
            long = one if isinstance(one, dict) else {"source": one}
            found[long.get("target", SECRETS + long["source"])] = long["source"]
        return found

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL; Docker's own are 10."""
        return seconds(self.spec.get("stop_grace_period", "10s"))

    @property
    def replicas(self) -> int:
        return int(self.spec.get("deploy", {}).get("replicas", 1))


def load(env_file: Path | None = None, path: Path = COMPOSE) -> dict[str, Any]:
    """The whole file, with the variables of ``env_file`` and no others."""
    variables = read_env(env_file) if env_file else {}
    read: dict[str, Any] = _filled(yaml.safe_load(path.read_text(encoding="utf-8")), variables)
    return read


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """``${NAME:-default}`` is filled in after YAML was read, as Compose does it."""
    match value:
        case dict():
            return {name: _filled(one, variables) for name, one in value.items()}
        case list():
            return [_filled(one, variables) for one in value]
        case str():
            return re.sub(
                r"\$\{(\w+):-([^}]*)\}", lambda one: variables.get(one[1]) or one[2], value
            )
    return value


def services(env_file: Path | None = None) -> dict[str, Service]:
    return {name: Service(name, spec) for name, spec in load(env_file)["services"].items()}


def ours() -> list[Service]:
    """The services that run a role."""
    return [service for service in services().values() if service.ours]


def read_env(path: Path) -> dict[str, str]:
    """NAME → value of a file of ``NAME=value`` lines."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def seconds(span: str) -> float:
    """``90s``, ``1m30s``."""
    parts = re.findall(r"(\d+)([hms])", span)
    assert "".join(number + unit for number, unit in parts) == span, span
    return float(sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts))


def compose_image() -> str:
    """The one image of ours."""
    (image,) = {service.spec["image"] for service in ours()}
    return str(image)
