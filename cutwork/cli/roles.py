"""The roles by name. The library imports none of them, so they stand here as strings."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from cutwork.errors import InvalidSetting

_PLACES = {
    "worker": "cutwork.worker.main:serve_jobs",
    "reconciler": "cutwork.worker.main:reconcile",
    "webhook": "cutwork.webhook.main:serve",
    "console": "cutwork.console.main:serve",
    "sandbox": "cutwork.sandbox.server:serve",
    "metrics": "cutwork.exporter:serve",
    "drill": "cutwork.drill.soak:drill",
    "db upgrade": "cutwork.migrations.upgrade:upgrade",
    "db check": "cutwork.migrations.upgrade:differences",
}
# What each extra of the package brings, as its modules are called.
_EXTRAS = {
    "cv2": "sandbox", "multipart": "sandbox", "numpy": "sandbox", "granian": "webhook",
    "jinja2": "console", "markupsafe": "console", "prometheus_client": "metrics",
}  # fmt: skip


def role(name: str) -> Callable[..., Any]:
    """The function that runs the role.

    Raises:
        InvalidSetting: it needs an extra that is not installed.
    """
    module, _, function = _PLACES[name].partition(":")
    missing = ""
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
    else:
        return found
    remedy = f"pip install 'cutwork[{_EXTRAS[missing]}]'"
    raise InvalidSetting(name, missing, "needs a package that is not installed", remedy)
