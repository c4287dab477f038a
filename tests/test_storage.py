"""Storage keeps what it was given, whole or not at all, wherever it is."""

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest

from cutwork.errors import InvalidSetting, StorageError
from cutwork.shelves import Directory, _Sync
from cutwork.storage import Storage
from tests.services.waiting import run_until

DATA = bytes(range(256)) * 64


class FakeS3(BaseHTTPRequestHandler):
    """As much of S3 as one object at a time needs; ``answer`` makes it fail."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, tuple[bytes, str]]]
    answer: ClassVar[int | None]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.answer is None:
            self.objects[self.path] = body, self.headers["Content-Type"]
        self._reply(200)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(parse_qsl(query))
        if asked.get("list-type") == "2":
            self._list(path.rstrip("/"), asked.get("prefix", ""))
        else:
            self._reply(200 if self.path in self.objects else 404)

    def _list(self, bucket: str, prefix: str) -> None:
        keys = [path.removeprefix(f"{bucket}/") for path in self.objects]
        told = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            '<ETag>"1"</ETag><Size>1</Size></Contents>'
            for key in keys
            if key.startswith(prefix)
        )
        self._reply(200, f"<ListBucketResult>{told}</ListBucketResult>".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """The bulk delete, which obstore prefers."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        bucket = self.path.split("?")[0].rstrip("/")
        keys = [piece.split("</Key>")[0] for piece in body.split("<Key>")[1:]]
        if self.answer is None:
            for key in keys:
                self.objects.pop(f"{bucket}/{key}", None)
        said = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._reply(200, f"<DeleteResult>{said}</DeleteResult>".encode())

    def _reply(self, status: int, body: bytes = b"") -> None:
        status = self.answer or status
        if status == 200 and self.command in ("GET", "HEAD") and not body:
            body = self.objects[self.path][0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeS3]]:
    handler = type("Handler", (FakeS3,), {"objects": {}, "answer": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["file", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Storage.at("s3://pictures/pre/fix")
    if request.param == "memory":
        return Storage.at("memory://")
    return local(tmp_path)


def local(tmp_path: Path) -> Storage:
    return Storage.at((tmp_path / "my files").as_uri())


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_what_was_put_comes_back(storage: Storage) -> None:
    uri = storage.put("results/7/image.png", DATA)

    assert uri == storage.uri("results/7/image.png")
    assert storage.get(uri) == DATA
    assert storage.size(uri) == len(DATA)
    assert storage.exists(uri)
    with storage.open(uri) as file:
        assert file.read(10) == DATA[:10]
        assert file.read() == DATA[10:]


def test_a_file_is_copied(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA * 700)  # more than a bucket's part

    uri = storage.put("a.png", source)

    assert storage.get(uri) == DATA * 700
    assert source.exists()


def test_pieces_are_put_together(storage: Storage) -> None:
    assert storage.get(storage.put("a.png", iter([b"one", b"", b"two"]))) == b"onetwo"


def test_pieces_that_end_in_a_fault_replace_nothing(storage: Storage) -> None:
    def broken() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.EIO, "bad sector")

    uri = storage.put("r/a.png", b"old")

    with pytest.raises(StorageError, match="bad sector"):
        storage.put("r/a.png", broken())

    assert storage.get(uri) == b"old"
    storage.clear("r")
    assert not storage.exists(uri)


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put("a.png", b"first, and longer")

    assert storage.get(storage.put("a.png", b"second")) == b"second"


def test_a_folder_is_cleared_and_its_neighbours_are_not(storage: Storage) -> None:
    inside = [storage.put(f"results/7/{name}", b"x") for name in ("a.png", "b-2.png", "c/d.png")]
    beside = [storage.put(key, b"x") for key in ("results/77/a.png", "inputs/7.png", "results/7.x")]

    storage.clear("results/7")
    storage.clear("results/7")

    assert [storage.exists(uri) for uri in inside] == [False] * 3
    assert [storage.exists(uri) for uri in beside] == [True] * 3
    assert storage.holds(inside[0])
    assert not storage.holds("file:///elsewhere/results/7/a.png")


def test_a_folder_that_cannot_be_cleared_is_an_error(storage: Storage) -> None:
    with pytest.raises(StorageError, match="is no key"):
        storage.clear("../up")


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    uri = storage.put("a.png", b"")

    assert storage.exists(uri)
    assert (storage.size(uri), storage.get(uri)) == (0, b"")


def test_what_is_not_there_is_an_error_that_says_so(storage: Storage) -> None:
    uri = storage.uri("results/9/image.png")

    assert not storage.exists(uri)
    for verb in (storage.get, storage.open, storage.size):
        with pytest.raises(StorageError, match="there is no such file") as caught:
            verb(uri)
        assert caught.value.uri == uri


def test_a_deleted_file_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    uri, other = storage.put("r/1/a.png", DATA), storage.put("r/2/a.png", DATA)

    storage.delete(uri)
    storage.delete(uri)

    assert not storage.exists(uri)
    assert storage.exists(other)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../../b",
        "a/./b",
        "a/.hidden",
        "a\\b",
        "a b",
        "a\0",
        "a\n",
        "ä",
        "a?b",
        "a#b",
        "%2e%2e/a",
        "a" * 513,
    ],
)
def test_a_key_that_leads_elsewhere_is_refused(storage: Storage, key: str) -> None:
    with pytest.raises(StorageError, match="is no key"):
        storage.put(key, DATA)


def test_a_uri_of_another_place_is_refused(storage: Storage, tmp_path: Path) -> None:
    ours = storage.uri("a.png")
    (tmp_path / "secret").write_text("x")

    for uri in (
        "",
        "a.png",
        "file:///etc/passwd",
        "s3://other/a.png",
        "memory://x/a.png",
        ours.replace("a.png", "../secret"),
        ours.replace("a.png", "%2e%2e/secret"),
        ours.replace("a.png", ""),
        ours.replace("/a.png", "-b/a.png"),
        ours + "?x",
    ):
        for verb in (storage.get, storage.open, storage.size, storage.delete, storage.path):
            with pytest.raises(StorageError, match="not in this storage"):
                verb(uri)


def test_only_a_file_has_a_path(tmp_path: Path) -> None:
    storage, memory = local(tmp_path), Storage.at("memory://")

    assert storage.path(storage.put("r/a.png", DATA)) == tmp_path / "my files" / "r" / "a.png"
    assert storage.uri("r/a.png") == (tmp_path / "my files/r/a.png").as_uri()
    assert memory.path(memory.put("r/a.png", DATA)) is None


def test_different_spellings_of_a_directory_are_one_storage(tmp_path: Path) -> None:
    uri = Storage.at(f"file://{tmp_path}/store").put("a.png", DATA)

    for url in (
        f"file://{tmp_path}/store/",
        f"file://localhost{tmp_path}/store",
        f"file://{tmp_path}/x/../store/.",
        f"file://{tmp_path}/%73tore",
    ):
        assert Storage.at(url).get(uri) == DATA


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/cutwork",
        "file:srv",
        "file://host/srv",
        "file:///",
        "ftp://host/srv",
        "s3:///prefix",
        "s3://key:hunter2@bucket",
        "s3://bucket?secret=hunter2",
        "az://container/without-account",
        "http://[::1",
    ],
)
def test_a_url_that_is_no_storage_is_refused_and_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(InvalidSetting, match="CUTWORK_STORAGE_URL must ") as caught:
        Storage.at(url)

    assert "hunter2" not in f"{caught.value!r} {caught.value}"


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    storage = local(tmp_path)

    for number in range(3):
        storage.put(f"r/{number}/a.png", DATA)

    assert files(tmp_path / "my files") == ["r/0/a.png", "r/1/a.png", "r/2/a.png"]


def test_deleting_the_last_file_removes_the_directories_but_not_the_root(tmp_path: Path) -> None:
    storage = local(tmp_path)

    storage.delete(storage.put("a/b/c/d.png", DATA))

    assert list((tmp_path / "my files").iterdir()) == []


def test_puts_and_deletes_of_neighbours_do_not_disturb_each_other(tmp_path: Path) -> None:
    storage = local(tmp_path)
    faults: list[Exception] = []

    def work(name: str) -> None:
        try:
            for _ in range(150):
                uri = storage.put(f"shared/deep/{name}.png", b"x")
                assert storage.get(uri) == b"x"
                storage.delete(uri)
        except Exception as error:  # noqa: BLE001 (shown by the test)
            faults.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []


def test_a_file_that_exists_can_be_read_while_it_is_replaced(tmp_path: Path) -> None:
    storage = local(tmp_path)
    uri = storage.put("a.png", b"a" * 300_000)
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            storage.put("a.png", b"b" * 300_000)
            storage.put("a.png", b"a" * 300_000)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = {(len(data), len(set(data))) for data in (storage.get(uri) for _ in range(200))}
    finally:
        stop.set()
        writer.join()

    assert seen == {(300_000, 1)}


FULL = """
import resource, signal, sys
from pathlib import Path
from cutwork.errors import StorageError
from cutwork.storage import Storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
storage = Storage.at(sys.argv[1])
old = storage.put("r/1/a.png", b"old")
usual = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
for key, source in (("r/1/a.png", b"x" * 200_000), ("r/2/a.png", Path(sys.argv[2]))):
    try:
        storage.put(key, source)
    except StorageError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, usual)
assert storage.get(old) == b"old"
"""


def test_a_write_that_is_cut_short_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    root, source = tmp_path / "store", tmp_path / "source"
    source.write_bytes(b"x" * 200_000)

    said = subprocess.check_output(
        [sys.executable, "-c", FULL, root.as_uri(), str(source)], text=True, timeout=60
    )

    assert said.count("the file is larger than this process may write") == 2
    assert files(root) == ["r/1/a.png"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full, open("/dev/full", "wb", 0) as file:
        file.write(b"x")

    assert Directory(tmp_path).explain(full.value) == ("the disk is full", "free some space")


def test_a_directory_that_may_not_be_written_is_named() -> None:
    program = (
        "import os, sys; from cutwork.errors import StorageError\n"
        "from cutwork.storage import Storage\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"  # root may write everywhere
        "try: Storage.at(sys.argv[1]).put('r/a.png', b'x')\n"
        "except StorageError as error: print(error)\n"
        "os.seteuid(os.getuid())\n"
    )
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", program, Path(folder).as_uri()]

        said = subprocess.check_output(command, text=True, timeout=60)

        assert "permission denied: let this user read and write there" in said
        assert files(Path(folder)) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="Not a directory"):
        Storage.at((tmp_path / "file" / "store").as_uri())


def test_a_source_that_is_missing_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"[Nn]o such file"):
        storage.put("r/a.png", tmp_path / "missing")

    assert not storage.exists(storage.uri("r/a.png"))


def test_a_bucket_is_told_what_a_file_is(s3: type[FakeS3]) -> None:
    storage = Storage.at("s3://pictures/pre/fix/")

    uri = storage.put("r/a.png", DATA)

    assert uri == "s3://pictures/pre/fix/r/a.png"
    assert s3.objects == {"/pictures/pre/fix/r/a.png": (DATA, "image/png")}


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_denies_access_is_named(s3: type[FakeS3], status: int) -> None:
    storage = Storage.at("s3://pictures")
    s3.answer = status

    with pytest.raises(StorageError, match="the bucket denies access: check") as caught:
        storage.put("a.png", DATA)

    assert caught.value.__context__ is None


def test_a_bucket_that_is_out_of_order_is_named(s3: type[FakeS3]) -> None:
    storage = Storage.at("s3://pictures")
    s3.answer = 503

    for verb in (storage.get, storage.size, storage.exists, storage.delete):
        with pytest.raises(StorageError, match="503") as caught:
            verb(storage.uri("a.png"))
        assert "hunter2" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_bucket_that_cannot_be_reached_is_named(
    s3: type[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")

    with pytest.raises(StorageError, match="check the network"):
        Storage.at("s3://pictures").put("a.png", DATA)

    assert s3.objects == {}


def test_a_bucket_that_was_used_before_a_fork_fails_at_once_after_it(s3: type[FakeS3]) -> None:
    # The child ends without tidying up: an interpreter that was forked from threads may hang there,
    # and should it hang before, the traceback says where.
    program = (
        "import faulthandler, os; from cutwork.errors import StorageError\n"
        "from cutwork.storage import Storage\n"
        "storage = Storage.at('s3://pictures')\n"
        "storage.put('a.png', b'x')\n"
        "if os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "faulthandler.dump_traceback_later(20, exit=True)\n"
        "try: storage.put('b.png', b'x')\n"
        "except StorageError as error: print(error, flush=True)\n"
        "os._exit(0)\n"
    )

    said = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)

    assert "before this process was forked" in said
    assert list(s3.objects) == ["/pictures/a.png"]


def test_storage_needs_no_http_library_and_a_directory_no_bucket() -> None:
    program = (
        "import sys, cutwork.storage as s; s.Storage.at('file:///tmp').uri('a')\n"
        "print(sorted({'requests', 'obstore', 'PIL'} & set(sys.modules)))"
    )

    assert subprocess.check_output([sys.executable, "-c", program], timeout=60) == b"[]\n"


def test_threads_share_the_sync_of_a_folder_but_none_that_began_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []
    entered, free = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        begun.append(folder)
        entered.set()
        assert free.wait(10)

    monkeypatch.setattr("cutwork.shelves._sync", slow)
    sync = _Sync(tmp_path)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(sync.wait)
        assert entered.wait(10)
        others = [pool.submit(sync.wait) for _ in range(8)]
        run_until(lambda: all(one.running() for one in others))
        free.set()
        for one in (first, *others):
            one.result(10)

    assert 2 <= len(begun) < 9
