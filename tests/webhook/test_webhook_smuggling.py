"""Requests whose end or meaning is in doubt, byte by byte, under every server.

Behind each waits a second request, a whole callback with a good token of another job. Who reads the
first one wrongly takes it for a request of its own, and that job moves.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.services.ports import HOST
from tests.webhook.desk import DONE
from tests.webhook.servers import SERVERS, Served

JSON = json.dumps(DONE).encode()
SIZE = b"Content-Length: %d" % len(JSON)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNK, LAST = b"%x\r\n%s\r\n" % (len(JSON), JSON), b"0\r\n\r\n"


def post(token: str, *headers: bytes, body: bytes = b"", end: bytes = b"\r\n") -> bytes:
    line = b"POST /callbacks/%s HTTP/1.1" % token.encode()
    return end.join([line, b"Host: h", *headers, b"", b""]) + body


@dataclass(frozen=True)
class Coding:
    """Who goes by the coding sees the second request after ``long`` only, else after ``short``.

    ``long`` is with a length that covers both requests, ``short`` with one that ends before the
    second one, which stands in a chunk.
    """

    name: str
    header: bytes
    long: str
    short: str


@dataclass(frozen=True)
class Doubt:
    """``sent(token)`` is the first request.

    ``said``: each server's statuses, in their order or once for all, and the jobs that moved;
    ``-`` when it says nothing.
    """

    name: str
    sent: Callable[[str], bytes]
    said: str


CODINGS = [
    Coding(
        "as it should be",
        b"Transfer-Encoding: chunked",
        "200 outer | 400 | 200 200 both",
        "411 | 400 | 200 outer",
    ),
    Coding(
        "capitals",
        b"transfer-encoding: CHUNKED",
        "200 outer | 400 | 200 200 both",
        "411 | 400 | 200 outer",
    ),
    Coding("a space before the colon", b"Transfer-Encoding : chunked", "400", "400"),
    Coding(
        "a tab before the value",
        b"Transfer-Encoding:\tchunked",
        "200 outer | 400 | 200 200 both",
        "411 | 400 | 200 outer",
    ),
    Coding("a vertical tab before the value", b"Transfer-Encoding: \x0bchunked", "400", "400"),
    Coding("a vertical tab behind it", b"Transfer-Encoding: chunked\x0b", "400", "400"),
    Coding(
        "a no-break space", b"Transfer-Encoding: \xa0chunked", "400 | 501 | 501", "400 | 501 | 501"
    ),
    Coding(
        "chunked, then identity",
        b"Transfer-Encoding: chunked, identity",
        "400 | 400 | 501",
        "400 | 400 | 501",
    ),
    Coding(
        "identity, then chunked",
        b"Transfer-Encoding: identity, chunked",
        "200 outer | 400 | 501",
        "411 | 400 | 501",
    ),
    Coding(
        "chunked twice",
        b"Transfer-Encoding: chunked, chunked",
        "200 outer | 400 | 200 200 both",
        "411 | 400 | 200 outer",
    ),
    Coding(
        "chunked, identity, in two lines",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "400 | 400 | 501",
        "400 | 400 | 501",
    ),
    Coding(
        "identity, chunked, in two lines",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "200 outer | 400 | 501",
        "411 | 400 | 501",
    ),
    Coding("in quotes", b'Transfer-Encoding: "chunked"', "400 | 501 | 501", "400 | 501 | 501"),
    Coding("an underscore", b"Transfer_Encoding: chunked", "200 outer", "200 200 both"),
    Coding(
        "folded",
        b"Transfer-Encoding:\r\n chunked",
        "400 | 400 | 200 200 both",
        "400 | 400 | 200 outer",
    ),
    Coding(
        "folded into another",
        b"X: y\r\n Transfer-Encoding: chunked",
        "400 | 400 | 200 outer",
        "400 | 400 | 200 200 both",
    ),
    Coding(
        "behind a bare LF",
        b"X: y\nTransfer-Encoding: chunked",
        "200 outer | 400 | 400",
        "411 | 400 | 400",
    ),
    Coding("behind a bare CR", b"X: y\rTransfer-Encoding: chunked", "400", "400"),
    Coding("a NUL in the name", b"Transfer\0-Encoding: chunked", "400", "400"),
    Coding("a NUL behind it", b"Transfer-Encoding: chunked\0", "400", "400"),
]
DOUBTS = [
    Doubt("two in one go", lambda t: post(t, SIZE, body=JSON), "200 200 both"),
    Doubt(
        "a bare LF after each line",
        lambda t: post(t, SIZE, body=JSON, end=b"\n"),
        "200 200 both | 400 | 400",
    ),
    Doubt("a bare CR after each line", lambda t: post(t, SIZE, body=JSON, end=b"\r"), "400"),
    Doubt("a NUL in a value", lambda t: post(t, SIZE, b"X: a\0b", body=JSON), "400"),
    Doubt("a bare CR in a value", lambda t: post(t, SIZE, b"X: a\rb", body=JSON), "400"),
    Doubt(
        "a folded value",
        lambda t: post(t, SIZE, b"X: a\r\n b", body=JSON),
        "400 | 400 | 200 200 both",
    ),
    Doubt(
        "a folded length",
        lambda t: post(t, SIZE.replace(b" ", b"\r\n "), body=JSON),
        "400 | 400 | 200 200 both",
    ),
    Doubt(
        "a space before a length's colon",
        lambda t: post(t, SIZE.replace(b":", b" :"), body=JSON),
        "400",
    ),
    Doubt("a length in hex", lambda t: post(t, b"Content-Length: 0x10", body=JSON), "400"),
    Doubt("no length, but a body", lambda t: post(t, body=JSON), "200 400 outer"),
    Doubt(
        "GET with a body",
        lambda t: post(t, SIZE, body=JSON).replace(b"POST", b"GET", 1),
        "200 200 both",
    ),
    Doubt(
        "an absolute address",
        lambda t: post(t, SIZE, body=JSON).replace(b" /", b" http://h/", 1),
        "200 200 both",
    ),
    Doubt(
        "a line of 100 kB",
        lambda t: post("x" * 100_000 + "/callbacks/" + t, SIZE, body=JSON),
        "414 | 414 | 200 200 both",
    ),
    Doubt(
        "a thousand headers",
        lambda t: post(t, SIZE, *(b"X-%d: y" % n for n in range(1000)), body=JSON),
        "431 | 431 | 200 200 both",
    ),
    Doubt(
        "a coding in the trailers",
        lambda t: post(t, CHUNKED, body=CHUNK + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "200 200 both | 400 | 200 200 both",
    ),
    Doubt(
        "a chunk's extension of 100 kB",
        lambda t: post(
            t, CHUNKED, body=CHUNK.replace(b"\r", b";" + b"x" * 100_000 + b"\r", 1) + LAST
        ),
        "411 | 400 | 200 200 both",
    ),
    Doubt(
        "a bare LF in an extension",
        lambda t: post(t, CHUNKED, body=CHUNK.replace(b"\r", b";a\nb\r", 1) + LAST),
        "411 | 400 | 400",
    ),
    Doubt(
        "a chunk's size of 17 digits",
        lambda t: post(t, CHUNKED, body=b"1" + b"0" * 14 + CHUNK + LAST),
        "411 | - | -",
    ),
    Doubt(
        "many zeros before a chunk's size",
        lambda t: post(t, CHUNKED, body=b"0" * 15 + CHUNK + LAST),
        "200 200 both",
    ),
    Doubt(
        "0x before a chunk's size",
        lambda t: post(t, CHUNKED, body=b"0x" + CHUNK + LAST),
        "411 | 400 | 400",
    ),
    Doubt(
        "a sign before a chunk's size",
        lambda t: post(t, CHUNKED, body=b"+" + CHUNK + LAST),
        "411 | 400 | 400",
    ),
    Doubt(
        "bare LFs around a chunk",
        lambda t: post(t, CHUNKED, body=(CHUNK + LAST).replace(b"\r", b"")),
        "411 | 400 | 400",
    ),
    Doubt(
        "a chunk longer than its size",
        lambda t: post(t, CHUNKED, body=b"2\r\n{}xx" + LAST),
        "200 outer | 400 | 400",
    ),
    Doubt("HTTP/0.9", lambda t: b"GET /callbacks/%s?state=1\r\n" % t.encode(), "400"),
    Doubt("HTTP/1.0", lambda t: post(t, SIZE, body=JSON).replace(b"/1.1", b"/1.0", 1), "200 outer"),
    Doubt(
        "HTTP/9.9",
        lambda t: post(t, SIZE, body=JSON).replace(b"/1.1", b"/9.9", 1),
        "400 | 400 | 200 outer",
    ),
    Doubt("the preface of HTTP/2", lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "- | 400 | 404"),
    Doubt(
        "an upgrade to HTTP/2",
        lambda t: post(t, SIZE, b"Connection: Upgrade", b"Upgrade: h2c", body=JSON),
        "200 200 both",
    ),
    Doubt(
        "another expectation",
        lambda t: post(t, SIZE, b"Expect: 200-ok", body=JSON),
        "200 200 both | 417 | 200 200 both",
    ),
]


@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.name)
def test_only_waitress_finds_a_request_behind_the_chunks_that_a_length_covers(
    served: Served, coding: Coding
) -> None:
    def long(token: str, inner: bytes) -> bytes:
        body = CHUNK + LAST + inner
        return post(token, b"Content-Length: %d" % len(body), coding.header, body=body)

    def short(token: str, inner: bytes) -> bytes:
        size = b"%x\r\n" % len(inner)
        body = size + inner + b"\r\n" + LAST
        return post(token, b"Content-Length: %d" % len(size), coding.header, body=body)

    told = _expected(served, coding.long), _expected(served, coding.short)
    # It should hang up after such a request; docs/webhook.md says what to put before it.
    assert "both" not in told[0] or served.name == "waitress"
    assert (_outcome(served, long, told[0]), _outcome(served, short, told[1])) == told
    assert served.is_well()


@pytest.mark.parametrize("doubt", DOUBTS, ids=lambda doubt: doubt.name)
def test_a_request_in_doubt_is_refused_or_taken_as_one(served: Served, doubt: Doubt) -> None:
    told = _expected(served, doubt.said)

    assert _outcome(served, lambda token, inner: doubt.sent(token) + inner, told) == told
    assert served.is_well()


def _expected(served: Served, said: str) -> str:
    each = said.split(" | ")
    return each[SERVERS.index(served.name) if len(each) > 1 else 0]


def _outcome(served: Served, sent: Callable[[str, bytes], bytes], expected: str) -> str:
    """The statuses of all answers, and which jobs moved: none, the outer one, or both."""
    (one, token), (two, other) = served.desk.send(), served.desk.send()
    inner = post(other, SIZE, b"Connection: close", body=JSON)
    said = _talk(served, sent(token, inner), sum(word.isdigit() for word in expected.split()))
    moved = [served.desk.job(job_id).state != "submitting" for job_id in (one, two)]
    names = {(True, False): "outer", (False, True): "inner", (True, True): "both"}
    return f"{said or '-'} {names.get((moved[0], moved[1]), '')}".strip()


def _talk(served: Served, sent: bytes, answers: int) -> str:
    """The statuses; when so many answers have come, whatever follows comes at once."""
    said, statuses = b"", list[str]()
    with socket.create_connection((HOST, served.port), 10) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(10 if answers else 1)
            while piece := connection.recv(65536):
                said += piece
                lines = [line for line in said.splitlines() if line.startswith(b"HTTP/")]
                statuses = [line.split()[1].decode() for line in lines]
                if len(statuses) >= answers:
                    connection.settimeout(0.3)
        except OSError:  # it waits for more, or hung up on what it had not read
            pass
    return " ".join(statuses)
