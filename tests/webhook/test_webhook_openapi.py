"""T6: whatever is asked of the webhook, it answers as its document says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generated import ask_everything
from tests.services.processes import Processes
from tests.webhook.desk import Desk
from tests.webhook.servers import SERVERS, Served

DOCUMENT = "openapi-webhook.yaml"


@pytest.mark.parametrize("name", SERVERS)
def test_strangers_are_answered_as_documented_and_change_nothing(
    make_desk: Callable[..., Desk],
    serve: Callable[..., Served],
    processes: Processes,
    tmp_path: Path,
    name: str,
) -> None:
    desk = make_desk()
    desk.send()
    before = desk.rows()
    served = serve(name, desk)

    ask_everything(processes, tmp_path, DOCUMENT, f"http://127.0.0.1:{served.port}")

    assert desk.rows()[:2] == before[:2]  # the third counts who came


def test_whoever_has_a_token_breaks_nothing_with_it(
    make_desk: Callable[..., Desk],
    serve: Callable[..., Served],
    processes: Processes,
    tmp_path: Path,
) -> None:
    desk = make_desk()
    job_id, token = desk.send()
    other, _ = desk.send()
    served = serve("granian", desk)

    url = f"http://127.0.0.1:{served.port}"
    ask_everything(processes, tmp_path, DOCUMENT, url, token=token)

    assert desk.attempt(job_id).callbacks > 10
    assert (desk.job(other).state, desk.attempt(other).callbacks) == ("submitting", 0)
