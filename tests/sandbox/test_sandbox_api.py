"""The provider's two endpoints, as its document has them, over real HTTP."""

import re
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
DOCUMENTED = {
    "completed_at",
    "created_at",
    "download_time",
    "err_info",
    "foreground_rect",
    "image",
    "image_height",
    "image_width",
    "output_type",
    "processed_at",
    "progress",
    "result_type",
    "return_type",
    "state",
    "state_detail",
    "task_id",
    "time_elapsed",
    "type",
}


def test_an_asynchronous_create_answers_a_task_id_and_nothing_else(make_client: Any) -> None:
    reply = make_client().submit()

    body = reply.json()
    assert UUID.fullmatch(body["data"]["task_id"])
    assert body == {
        "status": 200,
        "message": "success",
        "data": {"task_id": body["data"]["task_id"]},
    }


def test_a_synchronous_create_answers_the_documents_fields(make_client: Any) -> None:
    body = make_client().submit(sync=1).json()

    assert set(body) == {"status", "data"}
    assert set(body["data"]) == DOCUMENTED
    assert body["data"]["foreground_rect"] == {"x": 10, "y": 7, "width": 20, "height": 16}
    assert (body["data"]["image_width"], body["data"]["image_height"]) == (40, 30)
    assert (body["data"]["state"], body["data"]["progress"]) == (1, 100)
    assert (body["data"]["type"], body["data"]["result_type"]) == ("auto", "object")


def test_a_query_answers_the_finished_task(make_client: Any) -> None:
    client = make_client()
    task_id = client.accept(type="person", output_type=1)
    client.finish(task_id)

    data = client.query(task_id).json()["data"]

    assert set(data) == DOCUMENTED | {"mask"}
    assert (data["state"], data["type"], data["result_type"]) == (1, "person", "person")
    assert data["mask"].startswith(f"{client.sandbox.url}/files/{task_id}-mask.png?expires=")


def test_a_query_of_a_waiting_task_has_no_picture(make_client: Any) -> None:
    client = make_client(latency=(60, 60))

    data = client.query(client.accept()).json()["data"]

    assert (data["state"], data["image"], data["completed_at"]) == (0, "", 0)
    assert "foreground_rect" not in data


def test_only_the_key_that_made_a_task_may_ask_about_it(make_client: Any) -> None:
    client = make_client()
    other = make_client("another", sandbox=client.sandbox)

    reply = other.query(client.accept())

    assert reply.status_code == 404
    assert reply.json() == {"status": 404, "message": "task not found"}


def test_a_task_is_forgotten_after_its_time(make_client: Any) -> None:
    client = make_client(task_ttl=0)
    task_id = client.accept()
    client.finish(task_id)

    assert client.query(task_id).status_code == 404


@pytest.mark.parametrize("said", [None, "Basic x", "Bearer ", "x"])
def test_no_key_no_task(make_sandbox: Any, said: str | None) -> None:
    sandbox = make_sandbox()
    headers = {} if said is None else {"Authorization": said}

    reply = requests.post(f"{sandbox.url}/task/pic/segmentation", headers=headers, timeout=5)

    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert [entry["status"] for entry in sandbox.ledger()["refused"]] == [401]


def test_a_key_that_is_not_listed_is_refused_and_x_api_key_is_understood(make_sandbox: Any) -> None:
    sandbox = make_sandbox(tokens=["good"])

    def status(token: str) -> int:
        return requests.get(
            f"{sandbox.url}/task/x", headers={"X-API-KEY": token}, timeout=5
        ).status_code

    assert (status("good"), status("bad")) == (404, 401)


def test_a_picture_is_fetched_from_its_address(make_client: Any) -> None:
    client = make_client()
    address = client.link()

    row = client.finish(client.accept(image_url=address))

    assert (row["state"], row["charges"]) == (1, 1)
    assert row["fields"]["image_url"] == address


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/x.png", "http://nowhere.invalid/x.png"])
def test_a_picture_that_cannot_be_fetched_fails_with_state_minus_3(
    make_client: Any, path: str
) -> None:
    client = make_client()

    row = client.finish(client.accept(image_url=path))

    assert (row["state"], row["charges"]) == (-3, 0)


def test_a_failed_task_answers_200_with_a_negative_state(make_client: Any) -> None:
    client = make_client()
    client.png = b"no picture"

    reply = client.submit(sync=1)

    assert (reply.status_code, reply.json()["status"]) == (200, 200)
    assert reply.json()["data"]["state"] == -7
    assert reply.json()["data"]["image"] == ""
    assert client.sandbox.ledger()["charges"] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_url": "http://h/x", "image_file": b"x"}, "only one of"),
        ({}, "image is required"),
        ({"image_url": "http://h/" + "x" * 504}, "longer than 512"),
        ({"image_url": "ftp://h/x"}, "not an http address"),
        ({"image_file": b"x", "type": "cat"}, "type is invalid"),
        ({"image_file": b"x", "output_type": "4"}, "output_type is invalid"),
        ({"image_file": b"x", "crop": "yes"}, "crop is invalid"),
        ({"image_file": b"x", "format": "gif"}, "format is invalid"),
        ({"image_file": b"x", "bg_color": "red"}, "bg_color is invalid"),
        ({"image_file": b"x", "callback_url": "//h"}, "callback_url is not"),
    ],
)
def test_a_form_that_cannot_be_meant_is_refused(
    make_client: Any, fields: dict[str, Any], message: str
) -> None:
    client = make_client()
    parts = {name: (None, value) for name, value in fields.items()} or {"sync": (None, "0")}

    reply = requests.post(
        f"{client.sandbox.url}/task/pic/segmentation",
        headers=client.headers,
        files=parts,
        timeout=5,
    )

    assert reply.status_code == 400
    assert message in reply.json()["message"]
    assert client.sandbox.ledger()["tasks"] == []
    assert client.sandbox.ledger()["refused"][0]["ordinal"] == 0


def test_an_address_of_512_characters_is_taken(make_client: Any) -> None:
    assert make_client().submit(image_url="http://127.0.0.1:9/" + "x" * 493).status_code == 200


def test_a_urlencoded_form_is_read_too(make_client: Any) -> None:
    client = make_client()

    reply = requests.post(
        f"{client.sandbox.url}/task/pic/segmentation",
        headers=client.headers,
        timeout=5,
        data={"image_url": "http://127.0.0.1:9/a.png", "type": "", "output_type": "3"},
    )

    assert reply.status_code == 200
    assert client.sandbox.ledger()["tasks"][0]["fields"]["output_type"] == 3


@pytest.mark.parametrize("extra", [0, 2**21])
def test_a_picture_of_more_than_15_mb_is_refused(make_client: Any, extra: int) -> None:
    client = make_client()
    client.png = bytes(15 * 2**20 + 1 + extra)

    reply = client.submit()

    assert reply.status_code == 413
    assert reply.json()["status"] == 413


def test_a_picture_of_more_than_4096_pixels_a_side_fails_with_state_minus_5(
    make_client: Any, make_png: Any
) -> None:
    client = make_client()
    client.png = make_png(4097, 2)

    assert client.finish(client.accept())["state"] == -5


def test_a_body_without_a_length_is_refused(make_client: Any) -> None:
    client = make_client()

    reply = requests.post(
        f"{client.sandbox.url}/task/pic/segmentation",
        headers=client.headers,
        timeout=5,
        data=iter([b"chunk"]),
    )

    assert (reply.status_code, reply.json()["status"]) == (411, 411)


def test_a_connection_is_kept_for_the_next_request(make_client: Any) -> None:
    client = make_client(tokens=["other"])
    wire = HTTPConnection(client.sandbox.url.removeprefix("http://"), timeout=5)
    addresses = set()
    for _ in range(2):
        wire.request("POST", "/task/pic/segmentation", bytes(100_000))
        addresses.add(wire.sock.getsockname())
        assert wire.getresponse().read().startswith(b'{"error"')
    wire.close()

    assert len(addresses) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://[ HTTP/1.1\r\n", b"400"),
        (b"BREW /healthz HTTP/1.1\r\n", b"404"),
        (b"POST /task/pic/segmentation HTTP/1.1\r\nContent-Length: -1\r\n", b"411"),
        (b"POST /task/pic/segmentation HTTP/1.1\r\nContent-Length: x\r\n", b"411"),
        (
            b"POST /task/pic/segmentation HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            b"411",
        ),
        (
            b"POST /task/pic/segmentation HTTP/1.1\r\n"
            b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            b"411",
        ),
        (b"POST /task/pic/segmentation HTTP/1.1\r\nContent-Length: 99999999999\r\n", b"413"),
        (
            b"POST /task/pic/segmentation HTTP/1.1\r\nContent-Length: 0\r\n"
            b"Content-Type: multipart/form-data\r\n",
            b"400",
        ),
    ],
)
def test_a_malformed_request_gets_an_error_and_the_next_one_an_answer(
    make_client: Any, head: bytes, status: bytes
) -> None:
    client = make_client()
    host, port = client.sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(head + b"Authorization: Bearer x\r\nHost: sandbox\r\n\r\n")
        assert wire.recv(64).split()[1] == status

    assert client.submit().status_code == 200


@pytest.mark.parametrize("path", ["/", "/task", "/task/pic/segmentation", "/_sandbox", "/files/x"])
def test_an_unknown_address_has_no_page(make_client: Any, path: str) -> None:
    client = make_client()

    reply = requests.get(f"{client.sandbox.url}{path}", headers=client.headers, timeout=5)

    assert reply.status_code in (403, 404)


def test_it_says_that_it_is_well(make_sandbox: Any) -> None:
    assert requests.get(f"{make_sandbox().url}/healthz", timeout=5).json() == {"status": "ok"}


def test_the_documents_curl_works_but_for_the_host(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    picture = tmp_path / "shoe.png"
    picture.write_bytes(client.png)
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--location",
        "--request",
        "POST",
        f"{client.sandbox.url}/task/pic/segmentation",
        "--header",
        f"Authorization: Bearer {client.token}",
        "--form",
        f'image_file=@"{picture}"',
        "--form",
        'sync="1"',
        "--form",
        'type="object"',
        "--form",
        'output_type="2"',
        "--form",
        'crop="0"',
        "--form",
        'format="png"',
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)

    assert '"state": 1' in done.stdout
    assert '"result_type": "object"' in done.stdout


def test_curl_may_ask_before_it_sends_a_large_body(make_client: Any, tmp_path: Path) -> None:
    client = make_client()
    picture = tmp_path / "noise.png"
    picture.write_bytes(bytes(3 * 2**20))
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--header",
        f"X-API-KEY: {client.token}",
        "--header",
        "Expect: 100-continue",
        "--form",
        f"image_file=@{picture}",
        f"{client.sandbox.url}/task/pic/segmentation",
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)

    assert "task_id" in done.stdout


def test_the_documents_python_works_but_for_the_host(make_client: Any) -> None:
    client = make_client()
    url = f"{client.sandbox.url}/task/pic/segmentation"
    address = client.link()
    payload = {"sync": "0", "type": "object", "output_type": "2", "format": "png"}
    files = {"image_url": (None, address), "crop": (None, "1")}

    response = requests.request(
        "POST", url, headers=client.headers, data=payload, files=files, timeout=5
    )

    row = client.finish(response.json()["data"]["task_id"])
    assert row["state"] == 1
    assert row["fields"]["crop"] == 1
    assert row["fields"]["type"] == "object"


def test_the_witness_sees_a_submit_before_it_is_taken_on(make_client: Any) -> None:
    seen: list[tuple[str, int]] = []
    client: Any = None

    def witness(asked: Any, _key: str) -> None:
        seen.append((asked.callback_url, len(client.sandbox.ledger()["tasks"])))

    client = make_client(witness=witness)
    client.submit(callback_url="http://127.0.0.1:9/c")

    assert seen == [("http://127.0.0.1:9/c", 0)]


def test_the_ledger_names_keys_but_never_shows_them(make_client: Any) -> None:
    client = make_client("a-very-secret-token")
    client.accept(callback_url="http://127.0.0.1:9/callbacks/of-attempt-1")

    text = requests.get(f"{client.sandbox.url}/_sandbox/ledger", timeout=5).text

    assert "a-very-secret-token" not in text
    assert '"callback_url": "http://127.0.0.1:9/callbacks/of-attempt-1"' in text


def test_the_ledger_counts_polls_charges_and_what_is_in_flight(make_client: Any) -> None:
    client = make_client(latency=(0.2, 0.2))
    first, second = client.accept(), client.accept()
    client.query(first)
    client.query(first)
    row = client.finish(first)
    client.finish(second)

    ledger = client.sandbox.ledger()

    assert row["polls"]["count"] == len(row["polls"]["times"]) == 2
    assert (ledger["submits"], ledger["charges"]) == (2, 2)
    assert list(ledger["in_flight"].values()) == [{"now": 0, "most": 2}]
    assert [row["created_at"] <= row["completed_at"] for row in ledger["tasks"]] == [True, True]


def test_the_same_seed_gives_the_same_task_ids(make_client: Any) -> None:
    first, second, third = (make_client(seed=seed) for seed in (1, 1, 2))

    assert first.accept() == second.accept() != third.accept()


def test_a_reset_forgets_everything(make_client: Any) -> None:
    client = make_client()
    link = client.link()

    assert requests.post(f"{client.sandbox.url}/_sandbox/reset", timeout=5).status_code == 200

    ledger = client.sandbox.ledger()
    assert (ledger["tasks"], ledger["refused"], ledger["keys"]) == ([], [], {})
    assert requests.get(link, timeout=5).status_code == 404


def test_a_stop_hangs_up_on_an_idle_connection(make_client: Any) -> None:
    client = make_client()
    wire = HTTPConnection(client.sandbox.url.removeprefix("http://"), timeout=5)
    wire.request("GET", "/healthz")
    wire.getresponse().read()

    client.sandbox.stop()

    assert wire.sock.recv(1) == b""
    wire.close()


def test_a_stop_releases_a_synchronous_submit(make_client: Any, until: Callable[..., Any]) -> None:
    client = make_client(latency=(60, 60))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.submit, sync=1)
        until(lambda: client.sandbox.ledger()["tasks"])
        started = time.monotonic()
        client.sandbox.stop()
        assert waiting.exception(5) is not None or waiting.result().json()["data"]["state"] == 0

    assert time.monotonic() - started < 3
