"""Bodies as strangers send them, under every server: the right answer, and no harm done."""

import json
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.services.ports import HOST
from tests.services.waiting import run_until
from tests.webhook.desk import DONE
from tests.webhook.servers import Served, read

JSON = json.dumps(DONE).encode()
FORM = b"state=1&task_id=task-1&image=https://results.example/cut.png"
LIMIT = 65536
CHUNKED = "Transfer-Encoding: chunked"


def chunk(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


@dataclass(frozen=True)
class Attack:
    """``statuses`` in the order granian, gunicorn, waitress; 0: it hangs up without a word."""

    name: str
    headers: list[str]
    body: bytes
    statuses: tuple[int, int, int]
    shut: bool = False
    line: str = field(default="POST {} HTTP/1.1")


ATTACKS = [
    Attack(
        "too short, then closed", [f"Content-Length: {len(JSON) + 9}"], JSON, (400, 400, 0), True
    ),
    Attack("two lengths", ["Content-Length: 2", "Content-Length: 3"], b"{} ", (400, 400, 400)),
    Attack("a list of lengths", ["Content-Length: 2, 2"], b"{}", (400, 400, 400)),
    Attack("a negative length", ["Content-Length: -1"], b"", (400, 400, 400)),
    Attack("a signed length", ["Content-Length: +2"], b"{}", (400, 400, 400)),
    Attack("a length in words", ["Content-Length: two"], b"{}", (400, 400, 400)),
    Attack("1 GiB claimed", ["Content-Length: 1073741824"], b"{}", (413, 413, 413)),
    Attack("more than anybody has", [f"Content-Length: 9{'0' * 40}"], b"{}", (400, 413, 413)),
    Attack("one byte too many", [f"Content-Length: {LIMIT + 1}"], b" " * (LIMIT + 1), (413,) * 3),
    Attack("too many in chunks", [CHUNKED], chunk(b" " * 40000, b" " * 40000), (413,) * 3),
    Attack("a chunk without a size", [CHUNKED], b"zz\r\n{}\r\n0\r\n\r\n", (411, 400, 400)),
    Attack("a chunk too long", [CHUNKED], b"2\r\n" + JSON + b"\r\n0\r\n\r\n", (411, 400, 400)),
    Attack("a form cut off in a chunk", [CHUNKED], chunk(FORM, end=b"9\r\nx"), (411, 400, 0), True),
    Attack("JSON cut off in a chunk", [CHUNKED], chunk(JSON[:-9], end=b""), (411, 400, 0), True),
    Attack("nothing in chunks", [CHUNKED], b"", (411, 400, 0), True),
    Attack("chunks in HTTP/1.0", [CHUNKED], chunk(JSON), (400, 400, 411), line="POST {} HTTP/1.0"),
    Attack("chunks of another kind", ["Transfer-Encoding: xchunked"], chunk(JSON), (400, 501, 501)),
    Attack("gzip", ["Content-Encoding: gzip", "Content-Length: 2"], b"\x1f\x8b", (415,) * 3),
    Attack("gzip and identity", ["Content-Encoding: identity, gzip"], b"", (415,) * 3),
    Attack("HEAD", [], b"", (405,) * 3, line="HEAD {} HTTP/1.1"),
    Attack("PUT", ["Content-Length: 2"], b"{}", (405,) * 3, line="PUT {} HTTP/1.1"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_broken_body_changes_no_row_and_the_server_goes_on(
    served: Served, attack: Attack
) -> None:
    _, token = served.desk.send()
    before = served.desk.rows()

    line = attack.line.format(f"/callbacks/{token}")
    answer = served.raw(line, attack.headers, attack.body, shut=attack.shut)

    expected = dict(zip(("granian", "gunicorn", "waitress"), attack.statuses, strict=True))
    # Who shuts its own half may be hung up on, answer or not.
    allowed = {expected[served.name], 0} if attack.shut else {expected[served.name]}
    assert (answer.status if answer else 0) in allowed
    assert served.is_well()
    assert served.desk.rows() == before


GOOD = [
    ("with a length", [f"Content-Length: {len(JSON)}"], JSON),
    ("longer than its length", [f"Content-Length: {len(JSON)}"], JSON + b"garbage"),
    ("of exactly 64 KiB", [f"Content-Length: {LIMIT}"], JSON.ljust(LIMIT)),
    ("with a length in many digits", [f"Content-Length: {len(JSON):020}"], JSON),
    ("JSON in chunks", [CHUNKED], chunk(JSON[:7], JSON[7:])),
    ("identity", ["Content-Encoding: identity", f"Content-Length: {len(JSON)}"], JSON),
]


@pytest.mark.parametrize(("headers", "body"), [g[1:] for g in GOOD], ids=[g[0] for g in GOOD])
def test_a_whole_body_completes_the_job(served: Served, headers: list[str], body: bytes) -> None:
    job_id, token = served.desk.send()

    answer = served.raw(f"POST /callbacks/{token} HTTP/1.1", headers, body)

    assert answer is not None
    assert answer.status == 200
    assert served.desk.job(job_id).state == "storing"


def test_a_form_in_chunks_is_taken_only_where_its_end_is_known(served: Served) -> None:
    job_id, token = served.desk.send()

    answer = served.raw(f"POST /callbacks/{token} HTTP/1.1", [CHUNKED], chunk(FORM))

    # waitress counts the chunks and gives a length; the others cannot be told from a broken body.
    known = served.name == "waitress"
    assert answer is not None
    assert answer.status == (200 if known else 411)
    assert served.desk.job(job_id).state == ("storing" if known else "submitting")


def test_a_length_and_chunks_together_are_never_read_by_the_length(served: Served) -> None:
    job_id, token = served.desk.send()

    headers = ["Content-Length: 3", CHUNKED]
    answer = served.raw(f"POST /callbacks/{token} HTTP/1.1", headers, chunk(JSON))

    assert answer is not None
    assert answer.status == (400 if served.name == "gunicorn" else 200)
    refused = served.name == "gunicorn"
    assert served.desk.job(job_id).state == ("submitting" if refused else "storing")
    assert served.is_well()


def test_what_a_refused_body_holds_is_never_taken_for_a_request(served: Served) -> None:
    inner = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    last = b"DELETE /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with socket.create_connection((HOST, served.port), 10) as connection:
        head = f"POST /callbacks/{'A' * 60} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(inner)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + inner + last)
        with connection.makefile("rb") as stream:
            said = stream.read()

    assert said.startswith(b"HTTP/1.1 404")
    assert b"HTTP/1.1 200" not in said


def test_head_has_the_length_and_no_body(served: Served) -> None:
    answer = served.raw("HEAD /healthz HTTP/1.1", ["Connection: close"])

    assert answer is not None
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "3", b"")


def test_a_sender_who_waits_to_be_asked_is_asked(served: Served) -> None:
    job_id, token = served.desk.send()
    with socket.create_connection((HOST, served.port), 10) as connection:
        head = f"POST /callbacks/{token} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
        connection.sendall(f"{head}Content-Length: {len(JSON)}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(JSON)
        answer = read(connection)

    assert answer is not None
    assert answer.status == 200
    assert served.desk.job(job_id).state == "storing"


def test_senders_who_stall_take_nobody_with_them(served: Served) -> None:
    stalled_id, stalled_token = served.desk.send()
    job_id, token = served.desk.send()
    head = f"POST /callbacks/{stalled_token} HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{{"
    with ExitStack() as held:

        def connect(sent: bytes) -> socket.socket:
            connection = socket.create_connection((HOST, served.port), 15)
            connection.sendall(sent)
            return held.enter_context(connection)

        stalled = [connect(head.encode()) for _ in range(8)]
        for _ in range(4):
            connect(b"POST /callbacks/x HTTP/1.1\r\nHos")

        assert served.post(token, DONE).status == 200
        assert served.is_well()
        if served.name != "granian":  # which waits as long as the sender likes
            ends = [read(connection) for connection in stalled]
            # waitress says nothing when its --channel-timeout is over.
            assert {answer.status if answer else 0 for answer in ends} <= {0, 400}

    run_until(served.is_well, 5.0, "the server is well")
    assert served.desk.job(job_id).state == "storing"
    assert served.desk.attempt(stalled_id).callbacks == 0
