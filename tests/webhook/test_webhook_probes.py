"""The doctor's probes: what a proxy does to a callback is found, and named, and changes nothing."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cutwork import callbacks, probe, reach, skew
from cutwork.finding import FAULT, OK, WARNING, Finding
from cutwork.settings import Settings
from cutwork.webhook.app import Webhook
from tests.services.ports import free_port
from tests.services.processes import Processes
from tests.services.registry import Services
from tests.test_fetching import certificate, context  # noqa: F401 - fixtures
from tests.webhook.desk import OLD_SECRET, SECRET, Desk
from tests.webhook.proxies import App, passing, says, serving
from tests.webhook.servers import Served, start
from tests.webhook.test_webhook_tokens import call, statements  # noqa: F401 - a fixture

NOW = 1_800_000_000.0
OTHER = "a secret of somebody else's webhook"


@pytest.fixture(scope="module")
def behind(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One webhook under granian, for all the proxies."""
    processes = Processes(tmp_path_factory.mktemp("granian"))
    desk = Desk(services.empty("sqlite"))
    try:
        made = start(processes, "granian", desk)
        yield made
        made.assert_discreet()
    finally:
        processes.close()
        desk.close()


def settle(url: str, **changes: Any) -> Settings:
    made = Settings(public_url=url, callback_secrets=(SECRET.strip(), OLD_SECRET.strip()))
    return replace(made, **changes)


def found(app: App, prefix: str = "", **changes: Any) -> list[Finding]:
    """What the doctor finds of a public URL that leads to ``app``."""
    with serving(app) as address:
        return list(reach.reach(settle(f"{address}{prefix}", **changes)))


def one_fault(app: App, prefix: str = "", **changes: Any) -> Finding:
    (one,) = found(app, prefix, **changes)
    assert one.level == FAULT
    assert one.remedy
    assert "/callbacks/c" not in one.sentence  # a probe's token begins with c
    return one


def test_under_each_server_a_probe_arrives_whole(served: Served) -> None:
    (one,) = reach.reach(settle(f"http://127.0.0.1:{served.port}"))

    assert one.level == OK
    assert one.sentence.startswith("a callback reaches our webhook whole (after ")


def test_a_probe_needs_no_database_and_leaves_nothing(
    statements: list[str],  # noqa: F811
    behind: Served,
) -> None:
    before = behind.desk.rows()

    (one,) = found(passing(behind.port))

    assert one.code == "url_ok"
    assert behind.desk.rows() == before
    assert "route=probe status=200" in behind.process.log
    webhook = Webhook(Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing",
                               callback_secrets=(SECRET.strip(),)))  # fmt: skip
    statements.clear()
    status, headers, body, environ = call(webhook, f"/callbacks/{made()}", query="a=b")
    webhook.close()
    assert (status, headers["Content-Type"]) == ("200 OK", "application/json")
    assert b'"query": "a=b"' in body
    assert environ["PATH_INFO"] == "/callbacks/..."
    assert statements == []


def test_only_callbacks_need_to_be_public(behind: Served) -> None:
    (one,) = found(passing(behind.port, only="/callbacks/"))

    assert one.code == "url_ok"


def test_a_prefix_that_the_proxy_takes_off_is_fine(behind: Served) -> None:
    app = passing(behind.port, path=lambda path: path.removeprefix("/hooks/cut"), only="/hooks/")

    (one,) = found(app, "/hooks/cut")

    assert one.code == "url_ok"


def test_percent_encoding_alone_changes_nothing(behind: Served) -> None:
    bent = passing(behind.port, path=lambda path: path.replace("-", "%2D").replace("a", "%61"))

    (one,) = found(bent)

    assert one.code == "url_ok"


@pytest.mark.parametrize(
    ("bend", "change"),
    [
        (str.lower, "letters are made small or capital"),
        (lambda path: f"{path}/", "a slash is added at its end"),
        (lambda path: path.replace("b", "%2562"), "its characters are %-encoded once more"),
        (lambda path: path[:52], "the token is cut to 41 of 60 characters"),
        (lambda path: path[:9], "it is cut to 9 of 71 characters"),
        (lambda path: path.replace("/callbacks/", "/"), "/callbacks/ is taken out of it"),
        (lambda path: f"/x{path[::-1]}", "it is rewritten"),
    ],
)
def test_what_a_proxy_does_to_the_path_is_named(
    behind: Served, bend: Callable[[str], str], change: str
) -> None:
    # A token is random: one that has no b would be no test of what happens to it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "mint", lambda secret, expires: with_a_b(secret, expires))
        one = one_fault(passing(behind.port, path=bend))

    assert one.sentence == f"a callback reaches our webhook with another path: {change}"
    assert one.remedy == "let the proxy pass the path on as it came"


def test_a_webhook_that_does_not_know_what_we_signed_is_told_apart(behind: Served) -> None:
    other = one_fault(passing(behind.port), callback_secrets=(OTHER,))
    # With our secret, where a proxy leaves nothing of the token to be known by.
    bent = one_fault(passing(behind.port, path=str.lower, headers=False))

    assert "a cutwork webhook answers at CUTWORK_PUBLIC_URL" in other.sentence
    assert "CUTWORK_CALLBACK_SECRETS" in other.remedy
    assert bent == other


@pytest.mark.parametrize(
    ("app", "sentence", "remedy"),
    [
        (says("404 Not Found", b"Not Found\n", Content_Type="text/plain; charset=utf-8"),
         "another server answers at CUTWORK_PUBLIC_URL (404, text/plain; charset=utf-8)",
         "route /callbacks/"),
        (says("200 OK", b"<html>", Content_Type="text/html"),
         "another server answers at CUTWORK_PUBLIC_URL (200, text/html)", "route /callbacks/"),
        (says("200 OK", b'{"probe": "cutwork", "proof": "me"}', Content_Type="application/json"),
         "another server answers", "route /callbacks/"),
        (says("502 Bad Gateway"), "a proxy answers at CUTWORK_PUBLIC_URL (502)",
         "start `cutwork webhook`"),
        (says("301 Moved", Location="https://new.example/callbacks/c-secret"),
         "CUTWORK_PUBLIC_URL is redirected (301) to https://new.example", "where it leads"),
        (says("302 Found", Location="/login"), "redirected (302) to another path",
         "where it leads"),
        (says("401 Unauthorized"), "something before the webhook turns callbacks away (401)",
         "without a login"),
        (says("415 Unsupported Media Type"),
         "another server answers at CUTWORK_PUBLIC_URL (415)", "route /callbacks/"),
        (says("413 Content Too Large"), "bytes of JSON are answered with 413",
         "CUTWORK_CALLBACK_MAX_BODY"),
    ],
)  # fmt: skip
def test_who_else_answers_is_told(app: App, sentence: str, remedy: str) -> None:
    one = one_fault(app)

    assert sentence in one.sentence
    assert remedy in one.remedy


def test_a_body_that_is_changed_or_refused_is_found(behind: Served) -> None:
    changed = one_fault(passing(behind.port, body=lambda body: body.replace(b"x", b"y")))
    dropped = one_fault(passing(behind.port, body=lambda _: b""))
    large = one_fault(passing(behind.port, body=lambda body: body * 20))

    assert "does not reach our webhook as it was sent (it is another)" in changed.sentence
    assert dropped.code == "url_body"
    assert "(413 Content Too Large)" in large.sentence


def test_a_filter_that_takes_no_json_is_told_from_another_server(behind: Served) -> None:
    whole = passing(behind.port)

    def picky(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            start_response("415 Unsupported Media Type", [])
            return [b"no"]
        return whole(environ, start_response)

    one = one_fault(picky)

    assert one.code == "url_body"
    assert "bytes of JSON are answered with 415" in one.sentence


def test_a_query_that_is_dropped_or_changed_is_found(behind: Served) -> None:
    dropped = one_fault(passing(behind.port, query=lambda _: ""))
    decoded = one_fault(passing(behind.port, query=lambda query: query.replace("%252F", "/")))

    assert dropped.sentence == decoded.sentence
    assert "without its query, or with another" in dropped.sentence


def test_a_proxy_that_knows_no_get_is_a_warning(behind: Served) -> None:
    (one,) = found(passing(behind.port, methods=("POST",)))

    assert (one.level, one.code) == (WARNING, "url_get")
    assert "GET does not reach our webhook (403)" in one.sentence


def test_nothing_that_listens_is_a_fault() -> None:
    (one,) = reach.reach(settle(f"http://127.0.0.1:{free_port()}"))

    assert one.level == FAULT
    assert "nothing answers at CUTWORK_PUBLIC_URL (ConnectionRefusedError" in one.sentence


def test_tls_that_nobody_can_trust_is_a_fault(context: ssl.SSLContext) -> None:  # noqa: F811
    with serving(says("200 OK")) as address:
        (plain,) = reach.reach(settle(address.replace("http:", "https:")))
    from wsgiref.simple_server import make_server

    with make_server("127.0.0.1", 0, says("200 OK")) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        (signed,) = reach.reach(settle(f"https://127.0.0.1:{server.server_port}"))
        thread.join()

    for one in (plain, signed):
        assert (one.level, one.code) == (FAULT, "url_tls")
        assert "has no TLS that can be trusted" in one.sentence
    assert "self-signed certificate" in signed.sentence


def test_an_answer_that_takes_too_long_is_told(
    behind: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_LATE", 0.0)
    (ok, late) = found(passing(behind.port))
    assert (ok.code, late.code, late.level) == ("url_ok", "url_late", WARNING)

    over = threading.Event()
    monkeypatch.setattr(reach, "_PATIENCE", 0.3)

    def silent(_environ: Any, start_response: Any) -> list[bytes]:
        over.wait(20)
        start_response("200 OK", [])
        return []

    with serving(silent) as address:
        (one,) = reach.reach(settle(address))
        over.set()
    assert one.sentence == "CUTWORK_PUBLIC_URL did not answer within 0.3 s"


def test_a_webhook_whose_clock_is_ahead_is_found(
    behind: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = behind.desk.webhook()
    hour_ahead = SimpleNamespace(time=lambda: time.time() + 3600)
    monkeypatch.setattr("cutwork.webhook.echo.time", hour_ahead)
    with serving(webhook) as address:
        (ok, warned) = reach.reach(settle(address))
        (_, fault) = reach.reach(settle(address, callback_ttl=7000.0))
        (refused,) = reach.reach(settle(address, callback_ttl=3000.0))

    assert (ok.code, warned.level) == ("url_ok", WARNING)
    assert warned.sentence == "the webhook's clock is 3600 s ahead of this host's"
    assert (fault.level, fault.code) == (FAULT, "clock_expires")
    assert refused.code == "url_secrets"  # as a callback would be: its time is over there


def test_a_clock_that_is_behind_is_said_to_be_behind() -> None:
    (one,) = skew.compare_webhook(Settings(), -60.0)

    assert one.sentence == "the webhook's clock is 60 s behind this host's"


def test_without_a_public_url_or_a_secret_nothing_is_sent() -> None:
    assert list(reach.reach(Settings())) == []
    assert list(reach.reach(Settings(public_url="http://127.0.0.1:1"))) == []


def test_a_forged_probe_gets_the_answer_that_every_forged_token_gets(behind: Served) -> None:
    forged = [made(OTHER), made(expires=int(time.time()) - 1), made()[:-1] + "!", made()[::-1]]
    answers = [behind.post(token) for token in forged]
    answers += [
        behind.send("POST", "/callbacks/nonsense", b"{}", f"X-Cutwork-Probe: {token}")
        for token in forged
    ]
    usual = behind.post("A" * 60)

    for one in answers:
        assert (one.status, one.body, one.headers["content-type"]) == (
            404, usual.body, usual.headers["content-type"],
        )  # fmt: skip


def test_a_callback_with_a_probes_header_of_another_secret_is_heard_all_the_same(
    behind: Served,
) -> None:
    job_id, token = behind.desk.send()
    header = f"X-Cutwork-Probe: {made(OTHER)}"

    assert behind.send("POST", f"/callbacks/{token}", b"{}", header).status == 200
    assert behind.desk.attempt(job_id).callbacks == 1


def test_a_probe_is_no_callback_and_a_callback_no_probe() -> None:
    token = callbacks.mint(SECRET, UUID(int=7), 1, int(NOW) + 60)
    probing = probe.mint(SECRET, int(NOW) + 60)

    assert callbacks.verify([SECRET], probing, now=NOW) is None
    assert probe.signer([SECRET], token, now=NOW) is None
    assert probe.signer([OTHER, SECRET], probing, now=NOW) == SECRET
    assert probe.signer([SECRET], probing, now=NOW + 60) is None
    assert len(probing) == len(token)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_whatever_is_no_probe_of_ours_is_none(text: str, raw: bytes) -> None:
    assert probe.signer([SECRET], text, now=NOW) is None
    assert probe.signer([SECRET], raw.decode("latin-1"), now=NOW) is None


@example({"proof": "\ud800"})
@given(st.dictionaries(st.text(max_size=9), st.one_of(st.none(), st.integers(), st.text())))
def test_an_answer_without_the_proof_is_not_believed(told: dict[str, Any]) -> None:
    assert probe.read(SECRET, made(), told) is None


def made(secret: str = SECRET.strip(), expires: int | None = None) -> str:
    return probe.mint(secret, int(time.time()) + 60 if expires is None else expires)


def with_a_b(secret: str, expires: int, mint: Callable[[str, int], str] = probe.mint) -> str:
    """A token in which small letters, capitals and a b occur, so that a bend can be seen."""
    token = mint(secret, expires)
    while "b" not in token or token == token.lower():
        token = mint(secret, expires)
    return token
