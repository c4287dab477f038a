"""Every variable, through the environment: what it takes, what it refuses, and what it hides."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cutwork.errors import InvalidSetting
from cutwork.settings import PREFIX, SEEN_RESULT_HOST, Settings, current, key_id

LONG = "s" * 16
MORE = "m" * 16
SECRET = "sk-TopSecret-0123456789"
SIGNS = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

# For each field: a text, what it means, and texts that mean nothing.
RULES: dict[str, tuple[str, Any, list[str]]] = {
    "home": ("/srv/cutwork", Path("/srv/cutwork"), []),
    "database_url": ("postgresql://app@db/app", "postgresql://app@db/app", []),
    "broker_url": ("redis://broker", "redis://broker", []),
    "storage_url": ("s3://bucket", "s3://bucket", []),
    "api_url": (
        "https://api.example/v1/",
        "https://api.example/v1",
        [
            "api.example", "ftp://api.example", "https://", "https://a.example/?x=1",
            "https://a.example/#x", "https://a.example:port", "https://[::1", "https://a.example x",
            "https://a.exam\nple", "https://user:password@a.example",
        ],
    ),
    "api_tokens": (" one, two ,,", ("one", "two"), []),
    "api_auth": ("x-api-key", "x-api-key", ["basic", "Bearer"]),
    "submit_path": ("/create", "/create", ["create"]),
    "query_path": ("/tasks/{task_id}", "/tasks/{task_id}", ["/tasks", "{task_id}"]),
    "submit_timeout": ("2.5", 2.5, ["0.9", "601", "nan", "inf", "long"]),
    "query_timeout": ("2.5", 2.5, ["0.9", "601", "nan"]),
    "connect_timeout": ("0.1", 0.1, ["0", "61"]),
    "public_url": ("http://hooks.example/base/", "http://hooks.example/base", ["hooks.example"]),
    "callback_secrets": (f"{LONG},{MORE}", (LONG, MORE), ["short", f"{LONG},short"]),
    "callback_trust": ("confirm", "confirm", ["none"]),
    "callback_ttl": ("60", 60.0, ["59", "2592001"]),
    "callback_max_body": ("1024", 1024, ["1023", "1024.0", "1e4", "16777217"]),
    "result_hosts": (
        "A.example, b.example:8443",
        ("a.example", "b.example:8443"),
        ["*.example", "https://a.example", "user@a.example"],
    ),
    "result_networks": (
        "10.20.0.0/16, FD00:1::/32,192.0.2.7",
        ("10.20.0.0/16", "fd00:1::/32", "192.0.2.7/32"),
        ["10.20.0.1/16", "10.20", "10.0.0.0/33", "mirror.internal", "fd00::1%eth0/64"],
    ),
    "result_max_bytes": ("1024", 1024, ["1023", "x"]),
    "result_timeout": ("1", 1.0, ["0", "3601"]),
    "result_ttl": ("1", 1.0, ["0"]),
    "rate": ("0.5", 0.5, ["0", "-1", "100001", "fast"]),
    "max_in_flight": ("1", 1, ["0", "1.5"]),
    "daily_budget": ("10", 10, ["-1", "1.5"]),
    "breaker_failures": ("1", 1, ["0"]),
    "breaker_share": ("1", 1.0, ["0", "1.1"]),
    "breaker_window": ("1", 1.0, ["0"]),
    "breaker_pause": ("0.1", 0.1, ["0"]),
    "breaker_longest": ("0.1", 0.1, ["0"]),
    "breaker_ramp": ("0.1", 0.1, ["0"]),
    "check_after": ("0.1", 0.1, ["0"]),
    "poll_after": ("0.1", 0.1, ["0"]),
    "check_earliest": ("0.1", 0.1, ["0"]),
    "check_latest": ("0.1", 0.1, ["0"]),
    "check_max_interval": ("0.1", 0.1, ["0"]),
    "wait_timeout": ("1", 1.0, ["0"]),
    "on_uncertain": ("hold", "hold", ["retry"]),
    "uncertain_grace": ("0", 0.0, ["-1"]),
    "max_paid_attempts": ("1", 1, ["0", "101"]),
    "guard_share": ("0", 0.0, ["-0.1", "1.1"]),
    "guard_count": ("1", 1, ["0"]),
    "guard_window": ("1", 1.0, ["0"]),
    "permit_ttl": ("0.5", 0.5, ["0.4", "3601"]),
    "lease_margin": ("0.5", 0.5, ["0.4", "601"]),
    "submit_lane": ("1", 1, ["0", "10001"]),
    "check_lane": ("1", 1, ["0", "10001"]),
    "store_lane": ("1", 1, ["0", "10001"]),
    "notify_lane": ("1", 1, ["0", "10001"]),
    "notify_secrets": (
        f"{SIGNS}, {SIGNS}",
        (SIGNS, SIGNS),
        [LONG, "whsec_", "whsec_c2hvcnQ=", "whsec_*no base64 at all, however long it may be*"],
    ),
    "notify_for": ("60", 60.0, ["59", "2592001"]),
    "notify_timeout": ("0.1", 0.1, ["0", "601"]),
    "notify_networks": ("10.20.0.0/16", ("10.20.0.0/16",), ["10.20.0.1/16", "mirror.internal"]),
    "notify_queue": ("shop", "shop", []),
    "notify_broker_url": ("redis://broker", "redis://broker", []),
    "concurrency": ("1", 1, ["0", "1001"]),
    "console_token": (f" {LONG} ", LONG, ["short", "f" * 15]),
    "console_read_only": ("yes", "yes", ["1", "true"]),
    "keep_inputs": ("30d", 30 * 86400.0, ["-1", "soon", "30y", "nan", "99999d"]),
    "keep_results": ("90 min", 5400.0, ["1e3", "d"]),
    "keep_jobs": ("1.5h", 5400.0, ["forever"]),
    "purge_every": ("60", 60.0, ["0.5", "604801", "10m"]),
    "log_format": ("json", "json", ["xml"]),
    "log_level": ("DEBUG", "DEBUG", ["LOUD"]),
}  # fmt: skip
REFUSED = [(name, text) for name, (_, _, texts) in RULES.items() for text in texts]


def test_every_setting_is_tried_here() -> None:
    assert list(RULES) == [field.name for field in fields(Settings)]


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.load({}) == Settings()
    assert Settings.load({"HOME": "/", "CUTWORK_TEST_POSTGRESQL_URL": "x"}) == Settings()


@pytest.mark.parametrize("name", RULES)
def test_a_variable_sets_its_field_and_no_other(name: str) -> None:
    text, value, _ = RULES[name]

    loaded = Settings.load({f"{PREFIX}{name.upper()}": text})

    assert getattr(loaded, name) == value
    assert value != getattr(Settings(), name)
    changed = {field.name for field in fields(Settings) if field.name != name}
    assert {other: getattr(loaded, other) for other in changed} == {
        other: getattr(Settings(), other) for other in changed
    }


@pytest.mark.parametrize("name", RULES)
def test_an_empty_variable_means_the_default(name: str) -> None:
    assert Settings.load({f"{PREFIX}{name.upper()}": ""}) == Settings()


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_value_that_breaks_its_rule_is_refused_by_name(name: str, text: str) -> None:
    variable = f"{PREFIX}{name.upper()}"

    with pytest.raises(InvalidSetting, match=f"^{variable} must ") as caught:
        Settings.load({variable: text})

    assert caught.value.name == variable
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_a_default_keeps_its_own_rule_and_is_described(field: Any) -> None:
    text = ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)

    if text:
        assert field.metadata["read"](text) == field.default
    assert field.metadata["doc"].endswith(".")


def test_limits_are_written_out_in_full() -> None:
    with pytest.raises(InvalidSetting, match="must be from 60 to 2592000, got '1'"):
        Settings.load({"CUTWORK_CALLBACK_TTL": "1"})


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CUTWORK_API_TOKNES", "did you mean CUTWORK_API_TOKENS?"),
        ("CUTWORK_API_TOKEN_FILE", "did you mean CUTWORK_API_TOKENS?"),
        ("CUTWORK_DATABSE_URL", "did you mean CUTWORK_DATABASE_URL?"),
        ("CUTWORK_ZZZZZZ", "remove it"),
        ("CUTWORK_", "remove it"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_without_its_value(
    variable: str, hint: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.load({variable: SECRET})

    assert str(caught.value) == f"{variable} is not a setting, got '(hidden)': {hint}"
    assert SECRET not in repr(vars(caught.value))


def test_a_word_has_a_hint_too() -> None:
    with pytest.raises(InvalidSetting, match=r"\(did you mean payload\?\)"):
        Settings.load({"CUTWORK_CALLBACK_TRUST": "payloads"})


def test_a_file_may_hold_a_value(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{SECRET}\n")

    loaded = Settings.load({"CUTWORK_API_TOKENS_FILE": str(tmp_path / "tokens")})

    assert loaded.api_tokens == (SECRET,)
    assert Settings.load({"CUTWORK_API_TOKENS_FILE": ""}) == Settings()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error_that_does_not_show_what_was_given(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidSetting, match="CUTWORK_API_TOKENS_FILE must name a") as caught:
        Settings.load({"CUTWORK_API_TOKENS_FILE": str(path)})

    assert str(path) not in str(caught.value)  # it may be the secret itself


def test_a_value_and_its_file_together_are_refused(tmp_path: Path) -> None:
    environ = {
        "CUTWORK_API_TOKENS": SECRET,
        "CUTWORK_API_TOKENS_FILE": str(tmp_path / "tokens"),
    }

    with pytest.raises(InvalidSetting, match="set together with CUTWORK_API_TOKENS") as caught:
        Settings.load(environ)

    assert SECRET not in str(caught.value)


def test_a_bad_value_in_a_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("TooShort")

    with pytest.raises(InvalidSetting, match="CUTWORK_CALLBACK_SECRETS must be") as caught:
        Settings.load({"CUTWORK_CALLBACK_SECRETS_FILE": str(tmp_path / "secrets")})

    assert "TooShort" not in f"{caught.value} {vars(caught.value)}"
    assert caught.value.__suppress_context__


def test_a_secret_is_in_no_text_of_the_settings() -> None:
    lists = ("api_tokens", "callback_secrets", "notify_secrets")
    urls = ("database_url", "broker_url", "storage_url", "notify_broker_url")
    names = (*lists, "console_token", *urls)
    given = {name: SIGNS if name == "notify_secrets" else SECRET for name in names}
    loaded = Settings.load({f"{PREFIX}{name.upper()}": text for name, text in given.items()})

    assert loaded.api_tokens == loaded.callback_secrets == (SECRET,)
    assert loaded.notify_secrets == (SIGNS,)
    for secret in (SECRET, SIGNS):
        assert secret not in f"{loaded} {loaded!r}"
    assert set(names) == {field.name for field in fields(Settings) if field.metadata["secret"]}


def test_the_embedded_defaults_live_under_home() -> None:
    settings = Settings(home=Path("/srv/cut work"))

    assert settings.database == "sqlite:////srv/cut work/cutwork.db"
    assert settings.broker == "filesystem://"
    assert settings.storage == "file:///srv/cut%20work/files"
    given = Settings(database_url="a", broker_url="b", storage_url="c")
    assert (given.database, given.broker, given.storage) == ("a", "b", "c")


def test_a_key_is_named_by_its_digest() -> None:
    settings = Settings(api_tokens=("one", "two"))

    assert settings.keys == {"7692c3ad": "one", "3fc4ccfe": "two"}
    assert key_id("one") == "7692c3ad"


def test_results_may_come_from_the_api_itself() -> None:
    settings = Settings(api_url="https://API.example:8443/v1")

    assert settings.allowed_hosts == {SEEN_RESULT_HOST, "api.example:8443"}


def test_this_process_reads_its_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUTWORK_RATE", "7")
    current.cache_clear()
    try:
        first = current()
        monkeypatch.setenv("CUTWORK_RATE", "8")
        assert first.rate == 7
        assert current() is first
    finally:
        current.cache_clear()


@pytest.mark.parametrize("name", ["API_TOKENS", "CALLBACK_SECRETS", "RESULT_HOSTS", "HOME"])
def test_a_value_that_is_not_in_utf8_is_refused_when_it_is_read(name: str) -> None:
    with pytest.raises(InvalidSetting, match="must be in UTF-8"):
        Settings.load(
            {f"{PREFIX}{name}": b"sixteen letters\xff".decode("utf-8", "surrogateescape")}
        )
