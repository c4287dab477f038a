"""Requests that a generator thinks up from a document, answered as the document says."""

import re
from pathlib import Path

from tests.services.processes import Processes

DOCS = Path(__file__).parent.parent / "docs"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,ignored_auth"
)
EXAMPLES = "40"
# A run that asked less tested nothing.
LEAST = 100


def ask_everything(
    processes: Processes, folder: Path, document: str, url: str, *options: str, **parameters: str
) -> None:
    """Run schemathesis; ``parameters`` are parts of paths that it cannot guess."""
    known = "".join(f'"path.{name}" = "{value}"\n' for name, value in parameters.items())
    config = folder / "schemathesis.toml"
    config.write_text(f"[parameters]\n{known}", encoding="utf-8")
    run = processes.start(
        "schemathesis", "--no-color", "--config-file", str(config), "run", str(DOCS / document),
        "--url", url, "--checks", CHECKS, "--max-examples", EXAMPLES,
        "--phases", "examples,coverage,fuzzing", *options,
    )  # fmt: skip
    assert run.wait(150) == 0, run.log
    found = re.search(r"(\d+) generated, (\d+) passed", run.log)
    assert found, run.log
    assert int(found[2]) >= LEAST
