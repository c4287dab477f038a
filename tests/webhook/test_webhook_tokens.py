"""S6: what is not authentic gets one answer and no SQL; secrets stay out of what others see."""

import io
import logging
from collections.abc import Callable
from typing import Any
from wsgiref.validate import validator

import pytest
from sqlalchemy import Engine, event

from cutwork.callbacks import mint
from cutwork.settings import Settings
from cutwork.webhook.app import Webhook
from tests.webhook.desk import DONE, OLD_SECRET, SECRET, Desk
from tests.webhook.servers import Served

JOB = "0198c0de-0000-7000-8000-000000000001"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def statements() -> Any:
    """Every SQL statement of this process, whatever engine sends it."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def call(
    webhook: Any, path: str, *, query: str = "", method: str = "POST", **more: Any
) -> tuple[str, dict[str, str], bytes, dict[str, Any]]:
    """Call it as a strict server does: status, headers, body, and what it left in environ."""
    environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "SERVER_NAME": "h", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "RAW_URI": f"{path}?{query}", "REQUEST_URI": f"{path}?{query}", "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False, **more,
    }  # fmt: skip
    told: list[Any] = []

    def start_response(status: str, headers: Any, _exc_info: Any = None) -> Any:
        told[:] = [status, dict(headers)]
        return lambda _data: None

    result = validator(webhook)(environ, start_response)
    body = b"".join(result)
    result.close()
    return told[0], told[1], body, environ


def forgeries(desk: Desk) -> dict[str, str]:
    job_id, token = desk.send(attempts=2)
    middle = "A" if token[30] != "A" else "B"
    return {
        "forged": mint("another secret" * 3, job_id, 2, 2**32 - 1),
        "forged for its first attempt": mint("another secret" * 3, job_id, 1, 2**32 - 1),
        "expired": desk.mint(job_id, 2, ttl=-1),
        "cut short": token[:-1],
        "too long": f"{token}A",
        "twice": token * 2,
        "one letter changed": f"{token[:30]}{middle}{token[31:]}",
        "not ASCII": f"{token[:-2]}\u00c3\u00a9",
        "percent-encoded": f"%{ord(token[0]):x}{token[1:]}",
        "empty": "",
        "in quotes": f"'{token}'",
        "below another path": f"{token}/",
        "with a line break": f"{token}\n",
        "NUL": f"{token[:-1]}\0",
        "SQL": "' OR 1=1 --",
    }


def test_what_is_not_authentic_gets_one_answer_and_not_one_statement(
    make_desk: Callable[..., Desk], statements: list[str]
) -> None:
    desk = make_desk()
    tokens = forgeries(desk)
    webhook = desk.webhook()
    before = desk.rows()
    statements.clear()

    answers = {name: call(webhook, f"/callbacks/{token}")[:3] for name, token in tokens.items()}

    assert statements == []
    assert [name for name, answer in answers.items() if answer[0] != "404 Not Found"] == []
    assert len({repr(answer) for answer in answers.values()}) == 1
    assert desk.rows() == before


def test_the_token_of_an_attempt_that_never_was_changes_nothing(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    job_id, _ = desk.send()
    before = desk.rows()

    status, *_ = call(desk.webhook(), f"/callbacks/{desk.mint(job_id, 2)}")

    assert status == "410 Gone"
    assert desk.rows() == before


def test_a_token_speaks_of_its_own_attempt_only(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    job_id, _ = desk.send(attempts=2)
    failed = "state=-7&task_id=task-of-the-first"

    status, *_ = call(
        desk.webhook(), f"/callbacks/{desk.mint(job_id, 1)}", query=failed, method="GET"
    )

    assert status == "200 OK"
    assert (desk.job(job_id).state, desk.attempt(job_id, 2).state) == ("submitting", "sending")
    assert desk.attempt(job_id, 1).provider_state == -7


def test_a_replayed_callback_changes_nothing_but_its_count(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    job_id, token = desk.send()
    webhook = desk.webhook()
    query = "state=1&task_id=t&image=https://results.example/a.png"
    for _ in range(2):
        call(webhook, f"/callbacks/{token}", query=query, method="GET")
    before = desk.job(job_id)

    other = query.replace("a.png", "b.png")
    status, *_ = call(webhook, f"/callbacks/{token}", query=other, method="GET")

    assert status == "200 OK"
    assert desk.job(job_id) == before
    assert desk.attempt(job_id).report["image"].endswith("a.png")
    assert desk.attempt(job_id).callbacks == 3


def test_a_forged_token_needs_no_database(statements: list[str]) -> None:
    settings = Settings.of(database_url=NOWHERE, callback_secrets=SECRET)

    webhook = Webhook(settings)
    status, *_ = call(webhook, f"/callbacks/{'A' * 60}")

    assert (status, statements) == ("404 Not Found", [])
    webhook._forgeries._timer.cancel()  # there is nowhere to tell it


def test_a_token_that_a_listed_old_secret_signed_is_good(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    job_id, _ = desk.send()
    old = desk.mint(job_id, 1, OLD_SECRET)

    assert call(desk.webhook(), f"/callbacks/{old}")[0] == "200 OK"
    retired = Settings.of(database_url=desk.url, callback_secrets=SECRET)
    assert call(desk.webhook(retired), f"/callbacks/{old}")[0] == "404 Not Found"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "front", ["/callbacks/", "/hooks/callbacks/", "/callbacks//", "/Callbacks/"]
)
def test_no_token_and_no_query_is_left_for_others(
    desk: Desk, caplog: pytest.LogCaptureFixture, front: str, method: str
) -> None:
    caplog.set_level(logging.DEBUG)
    _, token = desk.send()
    query = f"state=1&image=https://results.example/cut.png?sig=secret&echo={token}"

    _, _, _, environ = call(desk.webhook(), f"{front}{token}", query=query, method=method)

    left = repr({name: value for name, value in environ.items() if isinstance(value, str)})
    assert token not in left
    assert "sig=secret" not in left
    assert SECRET not in left  # granian puts the process's own environment there
    left.encode("latin-1")  # what PEP 3333 asks of every value
    written = caplog.text + repr([vars(record) for record in caplog.records])
    assert token not in written
    assert "sig=secret" not in written


def test_a_token_in_front_of_another_path_is_not_shown(
    make_desk: Callable[..., Desk], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk = make_desk()
    _, token = desk.send()

    status, _, _, environ = call(desk.webhook(), f"/callbacks/{token}/callbacks/x")

    assert status == "404 Not Found"
    assert token not in repr(environ["PATH_INFO"])
    assert token not in repr([vars(record) for record in caplog.records])


class Broken:
    """A server's stream whose sender broke it, in an error of the server's own."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def read(self, _size: int) -> bytes:
        raise KeyError(self.secret)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"CONTENT_LENGTH": "2"}, "400 Bad Request"),
        ({"CONTENT_TYPE": 7}, "503 Service Unavailable"),
    ],
    ids=["of the stream", "of our own"],
)
def test_no_error_leaves_the_webhook_with_the_address_in_it(
    make_desk: Callable[..., Desk],
    caplog: pytest.LogCaptureFixture,
    fault: dict[str, Any],
    status: str,
) -> None:
    desk = make_desk()
    _, token = desk.send()
    path = f"/callbacks/{token}"
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "wsgi.input": Broken(path), **fault}
    if "CONTENT_TYPE" in fault:
        environ |= {"wsgi.input": io.BytesIO(b"ab"), "CONTENT_LENGTH": "2"}
    told: list[str] = []

    list(desk.webhook()(environ, lambda status, _headers: told.append(status)))

    assert told == [status]
    assert token not in repr([vars(record) for record in caplog.records])


def test_no_answer_and_no_log_of_a_server_holds_a_token(served: Served) -> None:
    job_id, token = served.desk.send()
    served.desk.purge(served.desk.send()[0])

    statuses = [
        served.send("POST", f"/hooks/callbacks/{token}").status,
        served.send("GET", f"/callbacks/{token}?image=https://a.example/?s=do-not-log-me").status,
        served.send("PUT", f"/callbacks/{token}").status,
        served.send("POST", f"/elsewhere/{token}").status,
        served.send("POST", f"/callbacks/{served.desk.mint(job_id, 9)}").status,
        served.send("POST", f"/callbacks/{token}x").status,
        served.post(token, DONE).status,
    ]

    assert statuses == [200, 200, 405, 404, 410, 404, 200]
    served.assert_discreet()


def test_gunicorns_access_log_shows_what_we_left_it(
    make_desk: Callable[..., Desk], serve: Callable[..., Served]
) -> None:
    served = serve("gunicorn", make_desk(), "--access-logfile=-")
    _, token = served.desk.send()

    assert served.send("GET", f"/callbacks/{token}?image=do-not-log-me").status == 200

    served.process.wait_for_log('"GET /callbacks/... HTTP/1.1" 200')


def test_a_forged_token_is_refused_at_once_while_the_database_is_down(
    make_desk: Callable[..., Desk], serve: Callable[..., Served]
) -> None:
    desk = make_desk()
    desk.options["database_url"] = NOWHERE
    served = serve("granian", desk)

    answer = served.send("POST", f"/callbacks/{'A' * 60}")

    assert (answer.status, answer.body) == (404, b"Not Found\n")
    assert answer.seconds < 1.0
