"""/healthz asks nobody; /readyz asks the database, but not for everybody."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event

from cutwork import database
from cutwork.errors import InvalidSetting
from cutwork.settings import Settings
from cutwork.webhook.app import Webhook, application
from cutwork.webhook.readiness import Readiness
from tests.services.private import PrivateServer
from tests.services.waiting import run_until
from tests.webhook.desk import SECRET, Desk
from tests.webhook.servers import Served


def ask(webhook: Any, path: str, method: str = "GET") -> str:
    told: list[str] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    list(webhook(environ, lambda status, _headers: told.append(status)))
    return told[0]


def test_healthz_needs_no_database(tmp_path: Any) -> None:
    path = tmp_path / "new" / "none.db"
    webhook = Webhook(Settings.of(database_url=f"sqlite:///{path}", callback_secrets=SECRET))

    assert ask(webhook, "/healthz") == "200 OK"
    assert not path.exists()


def test_readyz_is_503_until_the_tables_are_there(
    empty_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutwork.webhook.readiness._GOOD_FOR", 0.05)
    url = empty_database("sqlite")
    webhook = Webhook(Settings.of(database_url=url, callback_secrets=SECRET))
    assert ask(webhook, "/readyz") == "503 Service Unavailable"
    assert ask(webhook, "/healthz") == "200 OK"

    Desk(url).close()

    run_until(lambda: ask(webhook, "/readyz") == "200 OK", 5.0, "the webhook is ready")
    webhook.close()


def test_readyz_follows_the_database(
    make_desk: Callable[..., Desk],
    serve: Callable[..., Served],
    private_postgresql: PrivateServer,
) -> None:
    served = serve("granian", make_desk(private_postgresql.url))
    assert served.send("GET", "/readyz").status == 200

    private_postgresql.stop()
    run_until(lambda: served.send("GET", "/readyz").status == 503, 5.0, "it is not ready")
    assert served.send("GET", "/readyz").headers["retry-after"] == "5"
    private_postgresql.start()

    run_until(lambda: served.send("GET", "/readyz").status == 200, 5.0, "it is ready")


def test_many_probes_are_one_question(make_desk: Callable[..., Desk]) -> None:
    engine: Engine = database.engine(make_desk().url)
    asked: list[str] = []
    event.listen(engine, "begin", lambda _connection: asked.append("begin"))
    ready = Readiness(engine)
    assert ready()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: ready(), range(200)))

    assert len(asked) == 1
    engine.dispose()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_be_a_head_and_nothing_else(make_desk: Callable[..., Desk], path: str) -> None:
    webhook = make_desk().webhook()

    assert ask(webhook, path, "HEAD") == "200 OK"
    assert ask(webhook, path, "POST") == "405 Method Not Allowed"


@pytest.mark.parametrize("path", ["", "/", "*", "/healthz/", "/callbacks", "//healthz"])
def test_there_is_nothing_else(desk: Desk, path: str) -> None:
    assert ask(desk.webhook(), path) == "404 Not Found"


def test_a_webhook_without_a_secret_would_refuse_every_callback_and_does_not_start() -> None:
    with pytest.raises(InvalidSetting, match="CUTWORK_CALLBACK_SECRETS"):
        Webhook(Settings())


def test_a_bad_setting_is_503_and_a_line_that_says_which(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Settings()
    monkeypatch.setattr("cutwork.webhook.app.current", lambda: bad)
    monkeypatch.setattr("cutwork.log.configure", lambda _settings: None)

    assert ask(application, f"/callbacks/{'A' * 60}") == "503 Service Unavailable"

    assert "CUTWORK_CALLBACK_SECRETS" in caplog.text
    assert "A" * 60 not in caplog.text
