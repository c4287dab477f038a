"""API keys are tried at the provider, and nobody pays."""

from dataclasses import replace

import pytest

from cutwork.finding import FAULT, OK, WARNING, Finding
from cutwork.keys import try_keys
from cutwork.sandbox.server import Sandbox
from cutwork.settings import Settings, key_id
from tests.services.ports import free_port
from tests.webhook.proxies import App, says, serving

GOOD, BAD = "sk-good-hush", "sk-bad-hush"


def tried(url: str, *keys: str, **changes: float) -> list[Finding]:
    settings = Settings(api_url=url, api_tokens=keys or (GOOD,))
    return list(try_keys(replace(settings, **changes)))


def test_each_key_is_told_by_its_id_and_nothing_is_paid() -> None:
    with Sandbox(tokens=[GOOD]) as sandbox:
        good, bad = tried(sandbox.url, GOOD, BAD)
        told = sandbox.ledger()

    assert good == Finding(OK, "key", f"the provider takes key {key_id(GOOD)}", "", "key_ok")
    assert bad.level == FAULT
    assert bad.sentence == f"the provider refuses key {key_id(BAD)} (Invalid token)"
    assert "CUTWORK_API_TOKENS" in bad.remedy
    assert (told["charges"], told["tasks"]) == (0, [])
    assert "hush" not in str([good, bad])


def test_it_counts_as_one_request_of_the_key() -> None:
    with Sandbox(rate=1.0) as sandbox:
        (first,) = tried(sandbox.url)
        seconds = [tried(sandbox.url)[0] for _ in range(3)]

    assert first.level == OK
    busy = [one for one in seconds if one.code == "key_busy"]
    assert busy
    assert busy[0].level == WARNING
    assert "too many requests" in busy[0].sentence
    assert "CUTWORK_RATE" in busy[0].remedy


def answers(status: str, body: bytes, kind: str = "application/json") -> App:
    return says(status, body, Content_Type=kind)


@pytest.mark.parametrize(
    ("app", "level", "code"),
    [
        (answers("404 Not Found", b'{"status": 404, "message": "task not found"}'), OK, "key_ok"),
        (answers("200 OK", b'{"status": 404, "message": "no task"}'), OK, "key_ok"),
        (answers("400 Bad Request", b'{"error": {"message": "bad id"}}'), OK, "key_ok"),
        (answers("401 Unauthorized", b'{"message": "out of credit"}'), FAULT, "key_refused"),
        (answers("403 Forbidden", b"<html>", "text/html"), FAULT, "key_refused"),
        (answers("200 OK", b'{"status": 401, "message": "bad key"}'), FAULT, "key_refused"),
        (answers("500 Oops", b'{"error": {"code": "invalid_api_key"}}'), FAULT, "key_refused"),
        (answers("404 Not Found", b"<html>no</html>", "text/html"), FAULT, "api_elsewhere"),
        (answers("200 OK", b"<html>welcome</html>", "text/html"), FAULT, "api_elsewhere"),
        (answers("302 Found", b""), FAULT, "api_elsewhere"),
        (answers("502 Bad Gateway", b"<html>", "text/html"), WARNING, "key_unknown"),
        (answers("500 Oops", b'{"message": "internal"}'), WARNING, "key_unknown"),
        (answers("503 Wait", b"", "text/plain"), WARNING, "key_unknown"),
    ],
)
def test_what_an_answer_says_about_the_key(app: App, level: str, code: str) -> None:
    with serving(app) as address:
        (one,) = tried(address)

    assert (one.level, one.code) == (level, code)
    assert bool(one.remedy) == (level != OK)


def test_a_provider_that_is_away_is_not_the_keys_fault() -> None:
    (one,) = tried(f"http://127.0.0.1:{free_port()}", GOOD, BAD)

    assert (one.level, one.code) == (FAULT, "api_away")
    assert "CUTWORK_API_URL" in one.remedy


def test_a_server_that_is_not_the_api_is_found_once() -> None:
    with serving(answers("404 Not Found", b"<html>no</html>", "text/html")) as address:
        (one,) = tried(address, GOOD, BAD)

    assert one.code == "api_elsewhere"


def test_a_key_that_no_header_can_carry_is_refused_here() -> None:
    (one,) = tried("http://127.0.0.1:9", "sk-\u00fc-hush")

    assert one.code == "key_refused"
    assert "characters that no header can carry" in one.sentence


def test_without_a_key_nobody_is_asked() -> None:
    assert list(try_keys(Settings(api_url="http://127.0.0.1:9"))) == []


def test_a_providers_clock_that_is_far_off_is_told() -> None:
    date = "Thu, 01 Jan 2026 00:00:00 GMT"
    app = says("404 Not Found", b'{"status": 404}', Content_Type="application/json", Date=date)

    with serving(app) as address:
        _ok, clock = tried(address)

    assert (clock.level, clock.code) == (WARNING, "clock_provider")
    assert "the provider's clock is " in clock.sentence
