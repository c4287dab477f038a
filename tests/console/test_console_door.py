"""Who gets in, and how; what a page may do in a browser."""

import re
import subprocess
import sys
from dataclasses import replace
from urllib.parse import quote

import pytest

from cutwork.console.app import Console
from cutwork.console.patience import Patience
from cutwork.console.session import Sessions
from cutwork.errors import InvalidSetting
from tests.console.client import TOKEN
from tests.console.conftest import Enter
from tests.services.processes import clean_environment
from tests.world import World

PAGES = ("/", "/jobs", "/troubles", "/jobs/00000000-0000-0000-0000-000000000000")
POSTS = (
    "/gates/pause", "/gates/resume", "/troubles/ask", "/troubles/retry", "/troubles/cancel",
    "/jobs/00000000-0000-0000-0000-000000000000/retry",
    "/jobs/00000000-0000-0000-0000-000000000000/cancel",
)  # fmt: skip


@pytest.fixture
def kind() -> str:
    """The door asks no database, so one is enough."""
    return "sqlite"


def test_without_a_token_there_is_no_console(world: World) -> None:
    with pytest.raises(InvalidSetting, match="CUTWORK_CONSOLE_TOKEN"):
        Console(replace(world.settings, console_token=""))


def test_a_stranger_is_led_to_the_login_and_told_nothing(stranger: Enter) -> None:
    client = stranger()
    for path in PAGES:
        reply = client.get(path)
        assert reply.status == 303
        assert reply.headers["location"].startswith("/login")
        assert reply.body == b""


def test_a_strangers_form_is_refused(stranger: Enter) -> None:
    client = stranger()
    assert {client.post(path).status for path in POSTS} == {403}


def test_a_strangers_picture_is_refused(stranger: Enter) -> None:
    assert stranger().get(f"{PAGES[3]}/image/thumb").status == 403


def test_the_token_lets_in_and_leads_back_to_where_one_wanted_to_go(stranger: Enter) -> None:
    client = stranger()
    place = client.get("/jobs?state=held").headers["location"]
    client.get(place)

    reply = client.post("/login", {"token": TOKEN, "next": "/jobs?state=held"})

    assert (reply.status, reply.headers["location"]) == (303, "/jobs?state=held")
    assert client.get("/jobs").status == 200


def test_the_sessions_cookie_is_out_of_reach_and_holds_no_token(stranger: Enter) -> None:
    cookie = stranger().log_in().headers["set-cookie"]

    assert all(
        rule in cookie for rule in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200")
    )
    assert "Secure" not in cookie
    assert TOKEN not in cookie


def test_behind_tls_the_cookie_stays_within_it(stranger: Enter) -> None:
    reply = stranger().get(f"/?token={TOKEN}", **{"X-Forwarded-Proto": "https"})

    assert "; Secure" in reply.headers["set-cookie"]


def test_a_link_with_the_token_lets_in_and_loses_it(stranger: Enter) -> None:
    client = stranger()

    reply = client.get(f"/jobs?state=held&token={TOKEN}")

    assert (reply.status, reply.headers["location"]) == (303, "/jobs?state=held")
    assert client.get("/jobs?state=held").status == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "Ω" * 20, "\ud800"])
def test_another_word_does_not(stranger: Enter, token: str) -> None:
    client = stranger()
    client.get("/login")

    reply = client.post("/login", {"token": token.encode("utf-8", "surrogatepass")})

    assert reply.status == 403
    assert "not the token" in reply.words
    assert client.get("/").status == 303


def test_whoever_fails_too_often_waits_even_with_the_token(stranger: Enter) -> None:
    client = stranger()
    for _ in range(5):
        assert client.get("/?token=wrong").status == 403

    refused = client.get(f"/?token={TOKEN}")

    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert client.get(f"/?token={TOKEN}", REMOTE_ADDR="192.0.2.2").status == 303


def test_patience_ends_and_comes_back() -> None:
    now = [0.0]
    patience = Patience(clock=lambda: now[0])
    for _ in range(5):
        patience.failed("a")
    assert patience.wait("a") == 60
    assert patience.wait("b") == 0
    now[0] = 60.0
    assert patience.wait("a") == 0
    for number in range(30):
        patience.failed(f"address {number}")
    assert patience.wait("nobody yet") == 60


def test_an_address_of_another_site_is_no_place_to_go_to(stranger: Enter) -> None:
    for place in ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x"):
        client = stranger()
        client.get("/login")
        reply = client.post("/login", {"token": TOKEN, "next": place})
        assert reply.headers["location"] == "/"
    assert stranger().get(f"//evil.example/?token={TOKEN}").headers["location"] == "/"


def test_a_session_ends_by_itself_and_cannot_be_made_longer() -> None:
    sessions = Sessions(TOKEN)
    good = sessions.mint(1000.0)

    assert sessions.is_good(good, 1000.0 + 12 * 3600 - 1)
    assert not sessions.is_good(good, 1000.0 + 12 * 3600)
    words = good.split(".")
    assert not sessions.is_good(".".join([words[0], "99999999999", *words[2:]]), 1000.0)
    assert not sessions.is_good("", 0.0)
    assert not sessions.is_good("Ω.Ω", 0.0)
    assert not Sessions(f"{TOKEN}!").is_good(good, 1000.0)


def test_logging_out_takes_the_cookie_away(person: Enter) -> None:
    client = person()
    client.get("/")

    assert client.post("/logout").status == 303
    assert client.get("/").status == 303


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({"word": ""}, {}),
        ({"word": "0" * 64}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_that_is_not_of_this_session_changes_nothing(
    person: Enter, form: dict[str, str], headers: dict[str, str]
) -> None:
    client = person()
    for path in POSTS:
        client.get("/troubles")

        reply = client.post(path, form, **headers)

        assert reply.status == 403, path
        assert "not of this session" in reply.words


def test_another_sessions_word_is_of_no_use(person: Enter) -> None:
    one, other = person(), person()
    one.get("/troubles")
    other.get("/troubles")

    assert other.post("/gates/pause", {"word": one.word}).status == 403


def test_a_form_without_referrer_is_taken_from_our_own_page(person: Enter) -> None:
    client = person()
    client.get("/troubles")

    reply = client.post("/gates/pause", Origin="null", **{"Sec-Fetch-Site": "same-origin"})

    assert reply.status == 303


@pytest.mark.parametrize("path", [*PAGES, "/static/console.css", "/healthz", "/no/such/page"])
def test_every_answer_has_the_headers_that_keep_it_harmless(person: Enter, path: str) -> None:
    headers = person().get(path).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["form-action"]} == {"'self'"}
    assert policy["img-src"] == "'self' data:"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    kept = "public, max-age=31536000, immutable" if path.startswith("/static") else "no-store"
    assert headers["cache-control"] == kept


@pytest.mark.parametrize("path", ["/login", *PAGES])
def test_no_page_has_a_script_or_style_within_or_a_stranger(
    stranger: Enter, person: Enter, path: str
) -> None:
    page = (stranger if path == "/login" else person)().get(path).text

    assert "<html lang=" in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.findall(r"<script(?![^>]* src=\"/static/)", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


def test_nobody_has_to_be_logged_in_for_what_tells_nothing(stranger: Enter) -> None:
    client = stranger()

    assert client.get("/healthz").text == "OK\n"
    assert "Content-Type" not in client.get("/static/htmx.min.js").text[:20]
    assert client.get("/static/htmx.min.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/static/../app.py").status == 404


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PUT", {}, 405),
        ("POST", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ("POST", {"Content-Length": "70000"}, 413),
        ("POST", {"Content-Length": ""}, 411),
        ("POST", {"Content-Length": "20"}, 400),
    ],
)
def test_what_cannot_be_read_is_refused(
    stranger: Enter, method: str, headers: dict[str, str], status: int
) -> None:
    assert stranger().send(method, "/login", b"", **headers).status == status


def test_a_poll_of_a_session_that_is_over_leads_the_page_to_the_login(stranger: Enter) -> None:
    reply = stranger().get("/", **{"HX-Request": "true"})

    assert (reply.status, reply.headers["hx-redirect"]) == (403, "/login")


def test_no_token_is_left_for_whoever_follows(world: World) -> None:
    console = Console(world.settings)
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": f"token={quote(TOKEN)}",
        "RAW_URI": f"/?token={TOKEN}", "HTTP_COOKIE": "a=b", "HTTP_HOST": "h",
    }  # fmt: skip

    list(console(environ, lambda *_: None))
    console.close()

    assert TOKEN not in str(environ)


def test_neither_celery_nor_an_http_client_is_loaded(world: World) -> None:
    program = """
import sys
from cutwork.console.app import application
import cutwork.console.main
list(application({"PATH_INFO": "/login", "REQUEST_METHOD": "GET"}, lambda *_: None))
unwanted = {"celery", "kombu", "requests", "urllib3", "numpy", "alembic", "granian"}
unwanted |= {"sqlalchemy.orm"}
print(sorted(unwanted & set(sys.modules)))
"""
    environ = {
        "CUTWORK_DATABASE_URL": str(world.settings.database_url),
        "CUTWORK_CONSOLE_TOKEN": TOKEN,
        "CUTWORK_STORAGE_URL": world.settings.storage_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(environ), capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "[]\n"
