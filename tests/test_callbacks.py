"""Callback tokens prove one attempt and nothing else; callback bodies are read in any dress."""

import json
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cutwork import callbacks
from cutwork.callbacks import Claim, mint, read, verify
from cutwork.errors import InvalidSetting
from cutwork.report import Report, Verdict
from cutwork.settings import Settings

SECRET, OLD_SECRET = "s" * 32, "o" * 32
JOB = UUID("0198c0de-0000-7000-8000-000000000001")
NOW = 1_800_000_000.0
TOKEN = mint(SECRET, JOB, 1, int(NOW) + 60)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

attempts = st.integers(min_value=0, max_value=2**32 - 1)
calmly = hypothesis_settings(deadline=None)


@calmly
@given(st.uuids(), attempts, st.integers(min_value=1, max_value=2**32 - 1))
def test_a_token_says_which_attempt_it_was_minted_for(
    job_id: UUID, attempt: int, expires: int
) -> None:
    token = mint(SECRET, job_id, attempt, expires)

    assert verify([SECRET], token, now=expires - 0.5) == Claim(job_id, attempt)
    assert verify([SECRET], token, now=expires) is None
    assert set(token) <= set(ALPHABET)


@pytest.mark.parametrize("bit", range(45 * 8))
def test_a_token_with_one_bit_flipped_is_forged(bit: int) -> None:
    raw = bytearray(urlsafe_b64decode(TOKEN))
    raw[bit // 8] ^= 1 << (bit % 8)

    assert verify([SECRET], urlsafe_b64encode(raw).decode(), now=NOW) is None


def test_no_other_spelling_of_a_token_is_accepted() -> None:
    others = [
        TOKEN[:index] + letter + TOKEN[index + 1 :]
        for index in range(len(TOKEN))
        for letter in ALPHABET
        if letter != TOKEN[index]
    ]

    assert verify([SECRET], TOKEN, now=NOW) == Claim(JOB, 1)
    assert [other for other in others if verify([SECRET], other, now=NOW)] == []


@pytest.mark.parametrize(
    "token",
    [
        "", "x", TOKEN[:-1], f"{TOKEN}A", f"{TOKEN}=", f"{TOKEN}====", f"{TOKEN}\n", f" {TOKEN}",
        f"{TOKEN[:-1]}é", f"{TOKEN[:-1]}+", f"{TOKEN[:-1]}/", f"{TOKEN[:-1]}\x00",
        f"{TOKEN[:-1]}%41", "é" * 60, "\ud800" * 60, "A" * 60, "A" * 10_000_000,
    ],
    ids=lambda token: f"{len(token)}-{token[-3:]!r}",
)  # fmt: skip
def test_a_malformed_token_is_refused_without_an_error(token: str) -> None:
    assert verify([SECRET], token, now=NOW) is None


@calmly
@given(st.text(ALPHABET, min_size=60, max_size=60) | st.text(f"{ALPHABET}é=+/", max_size=70))
def test_no_made_up_token_is_accepted(token: str) -> None:
    assert verify([SECRET, OLD_SECRET], token, now=NOW) is None


@calmly
@given(attempts, attempts)
def test_another_attempts_token_never_verifies_as_this_one(one: int, other: int) -> None:
    tokens = {mint(SECRET, JOB, attempt, 2**32 - 1) for attempt in (one, other)}
    claims = {verify([SECRET], token, now=NOW) for token in tokens}

    assert claims == {Claim(JOB, one), Claim(JOB, other)}


def test_every_secret_verifies_and_a_stranger_does_not() -> None:
    old = mint(OLD_SECRET, JOB, 1, int(NOW) + 60)

    assert verify([SECRET, OLD_SECRET], old, now=NOW) == Claim(JOB, 1)
    assert verify([SECRET], old, now=NOW) is None
    assert verify([], TOKEN, now=NOW) is None


def test_the_first_secret_signs_the_url() -> None:
    settings = Settings(
        public_url="https://hooks.example/base",
        callback_secrets=(SECRET, OLD_SECRET),
        callback_ttl=100.0,
    )

    url = callbacks.url(settings, JOB, 3, now=NOW + 0.5)

    assert url is not None
    base, _, token = url.rpartition("/")
    assert base == "https://hooks.example/base/callbacks"
    assert verify([SECRET], token, now=NOW + 100) == Claim(JOB, 3)
    assert verify([SECRET], token, now=NOW + 101) is None
    assert len(url) <= 512


def test_without_a_public_url_there_is_no_callback() -> None:
    assert callbacks.url(Settings(callback_secrets=(SECRET,)), JOB, 1, now=NOW) is None


def test_a_public_url_without_a_secret_is_a_wrong_setting() -> None:
    with pytest.raises(InvalidSetting, match="CUTWORK_CALLBACK_SECRETS must be set"):
        callbacks.url(Settings(public_url="https://hooks.example"), JOB, 1, now=NOW)


FORM = {"task_id": "t-1", "state": "1", "image": "https://r.example/é?s=1"}
TEXT = json.dumps({"status": 200, "data": FORM}, ensure_ascii=False)
PRETTY = json.dumps({"status": 200, "data": FORM}, indent=2)
FORM_TYPE = "application/x-www-form-urlencoded"
PARTS_TYPE = "multipart/form-data; boundary=--XyZ"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (TEXT.encode(), "application/json"),
        (TEXT.encode(), "application/json; charset=utf-8"),
        (TEXT.encode(), ""),
        (TEXT.encode(), "text/html"),
        (TEXT.encode(), FORM_TYPE),
        (TEXT.encode(), "multipart/form-data; boundary=x"),
        (TEXT.encode(), "application/json; charset=idna"),
        (TEXT.encode("utf-8-sig"), "application/json"),
        (TEXT.encode("utf-16"), "application/json"),
        (TEXT.encode("utf-16be"), "application/json; charset=UTF-16BE"),
        (TEXT.encode("gbk"), 'application/json; charset="gbk"'),
        (TEXT.encode("latin-1"), "application/json; charset=iso-8859-1"),
        (PRETTY.encode() + b"\r\n", "application/json"),
        (urlencode({"status": 200, "data": json.dumps(FORM)}).encode(), FORM_TYPE),
    ],
)
def test_a_json_callback_is_understood(body: bytes, content_type: str) -> None:
    report = Report.read(read(body, content_type, "ignored=1"))

    assert report == Report(Verdict.DONE, state=1, task_id="t-1", image=FORM["image"])


def multipart(fields: dict[str, str], boundary: str = "--XyZ") -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return f"{''.join(parts)}--{boundary}--\r\n".encode()


@pytest.mark.parametrize(
    ("body", "content_type", "query"),
    [
        (urlencode(FORM).encode(), FORM_TYPE, ""),
        (urlencode(FORM).encode(), "", ""),
        (urlencode(FORM).encode(), "application/json", "ignored=1"),
        (b"", "", urlencode(FORM)),
        (b" \r\n", "application/json", urlencode(FORM)),
        (b"\xef\xbb\xbf", "application/json", urlencode(FORM)),
        (multipart(FORM), PARTS_TYPE, ""),
        (multipart(FORM), 'Multipart/Form-Data; charset=x; boundary="--XyZ"; x=y', ""),
        (multipart(FORM).replace(b"name=", b'filename="a"; name='), PARTS_TYPE, ""),
    ],
)  # fmt: skip
def test_a_form_callback_is_understood(body: bytes, content_type: str, query: str) -> None:
    assert read(body, content_type, query) == FORM


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 65536, "application/json"),
        (b'{"a":' * 10_000, "application/json"),
        (b'{"state": 1, "state": -1}', "application/json"),
        (b'{"data": {"state": 1, "state": -1}}', "application/json"),
        (b'{"progress": NaN}', "application/json"),
        (b'{"progress": Infinity}', "application/json"),
        (b'{"progress": 1e999}', "application/json"),
        (b'{"state": ' + b"9" * 60_000 + b"}", "application/json"),
        (b'{"state": "\xff"}', "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"state=1&state=-1", FORM_TYPE),
        (b"state=%ff", FORM_TYPE),
        (b"a&" * 30_000, FORM_TYPE),
        (b"&".join(b"f%d=1" % number for number in range(101)), ""),
        (multipart(FORM)[:-8], PARTS_TYPE),
        (multipart({f"f{n}": "1" for n in range(101)}), PARTS_TYPE),
        (multipart(FORM).replace(b'name="state"', b'name="image"'), PARTS_TYPE),
        (multipart(FORM).replace(b"name", b"nome"), PARTS_TYPE),
        (multipart({"state": "\xff"}).replace(b"\xc3\xbf", b"\xff"), PARTS_TYPE),
        (b"--other\r\n", PARTS_TYPE),
    ],
    ids=lambda value: repr(value[:30]),
)  # fmt: skip
def test_an_ambiguous_or_broken_body_is_nothing(body: bytes, content_type: str) -> None:
    assert read(body, content_type, "") is None


content_types = st.sampled_from(
    [
        "application/json", "text/plain; charset=gbk", "x; charset=utf-16le", "", "\x00é",
        "multipart/form-data; boundary=-", "multipart/form-data; boundary=é", FORM_TYPE,
    ]
)  # fmt: skip
fragments = st.sampled_from(
    [
        b"{", b"}", b"[", b'"', b":", b"\\", b"=", b"&", b"%", b"--", b"---", b"\r\n", b"\r\n\r\n",
        b'content-disposition: form-data; name="a"', b"state", b"1", b"\xff", b"\xef\xbb\xbf",
    ]
)  # fmt: skip


@calmly
@given(
    st.binary(max_size=80) | st.lists(fragments).map(b"".join),
    content_types,
    st.text("a=&%é+;\x00"),
)
def test_no_callback_breaks_the_reader(body: bytes, content_type: str, query: str) -> None:
    Report.read(read(body, content_type, query))


def test_the_webhook_loads_no_http_client_and_no_broker() -> None:
    program = (
        "import sys, cutwork.callbacks; "
        "print(*{'requests', 'urllib3', 'celery', 'kombu'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert loaded.stdout.strip() == b""
