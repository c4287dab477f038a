"""T6: whatever is asked of the sandbox, it answers as its document says."""

from pathlib import Path

import requests

from cutwork.sandbox.server import Sandbox
from tests.generated import ask_everything
from tests.house import Middle, picture
from tests.services.processes import Processes


def test_every_request_is_answered_as_documented(processes: Processes, tmp_path: Path) -> None:
    key = "Authorization: Bearer let-me-in"
    with Sandbox(seed=1, engine=Middle(), tokens=["let-me-in"]) as sandbox:
        made = requests.post(
            f"{sandbox.url}/task/pic/segmentation",
            files={"image_file": picture()},
            headers=dict([key.split(": ")]),
            timeout=10,
        )
        task_id = made.json()["data"]["task_id"]

        ask_everything(
            processes, tmp_path, "openapi-sandbox.yaml", sandbox.url, "--header", key,
            "--exclude-path", "/_sandbox/reset", task_id=task_id,
        )  # fmt: skip

        assert sandbox.ledger()["submits"] > 10
