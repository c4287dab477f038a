"""A request that the provider would refuse, or charge for nothing, cannot be made."""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image

from cutwork import pictures, sources
from cutwork.errors import InvalidInput
from cutwork.request import Request, Segmentation, StoredPicture, differences

URL = "https://shop.example/shoe.jpg"
# Written into the rows of every database that is in use: this must never change.
PINNED = "7846a00ec599c83a5d074ca802869e8d9589cb54590acc42bdc8db6e9fcabc24"


def png_bytes(width: int = 6, height: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


def stored(**changes: Any) -> StoredPicture:
    one = StoredPicture("file:///s/a.png", "ab" * 32, 9, "png", width=6, height=4)
    return dataclasses.replace(one, **changes)


class Trickle(io.RawIOBase):
    """A binary file that gives one byte at a time and counts what was asked of it."""

    def __init__(self, size: int) -> None:
        self.left, self.given = size, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = b"x" * min(size, self.left, 1 << 20)
        self.left -= len(piece)
        self.given += len(piece)
        return piece


def test_the_defaults_are_the_providers() -> None:
    request = Segmentation(image_url=URL)

    assert request.fields() == {"output_type": "2", "crop": "0", "format": "png"}
    assert request.outputs == ("image",)


def test_every_field_that_is_set_is_in_the_form() -> None:
    request = Segmentation(
        image_url=URL, type="stamp", output_type=1, crop=True, format="jpg", bg_color="#FFAA00"
    )

    assert request.fields() == {
        "type": "stamp",
        "output_type": "1",
        "crop": "1",
        "format": "jpg",
        "bg_color": "ffaa00",
    }


@pytest.mark.parametrize(
    ("output_type", "outputs"), [(1, ("image", "mask")), (2, ("image",)), (3, ("mask",))]
)
def test_outputs_follow_the_output_type(output_type: int, outputs: tuple[str, ...]) -> None:
    assert Segmentation(image_url=URL, output_type=output_type).outputs == outputs


@pytest.mark.parametrize(("given", "crop"), [(0, False), (1, True), (False, False), (True, True)])
def test_crop_may_be_a_number(given: Any, crop: bool) -> None:
    assert Segmentation(image_url=URL, crop=given).crop is crop


@pytest.mark.parametrize(
    ("field", "wrong", "hint"),
    [
        ("type", "persn", "did you mean 'person'?"),
        ("type", "Object", "did you mean 'object'?"),
        ("type", None, "must be one of"),
        ("type", "car", "must be one of"),
        ("output_type", 0, "must be 1"),
        ("output_type", 4, "must be 1"),
        ("output_type", "2", "must be 1"),
        ("output_type", 2.0, "must be 1"),
        ("output_type", True, "must be 1"),
        ("crop", 2, "must be True or False"),
        ("crop", "1", "must be True or False"),
        ("crop", None, "must be True or False"),
        ("format", "jpeg", "did you mean 'jpg'?"),
        ("format", "PNG", "did you mean 'png'?"),
        ("format", "", "must be one of png, jpg"),
        ("bg_color", "ffffff", "goes only with format 'jpg'"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(field: str, wrong: object, hint: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Segmentation(image_url=URL, **{field: wrong})  # type: ignore[arg-type]

    assert refusal.value.field == field
    assert str(refusal.value).startswith(field)
    assert hint in str(refusal.value)


@pytest.mark.parametrize("color", ["", "fff", "#ffff", "white", "gggggg", "ffffff0", "ffffff\n", 5])
def test_a_colour_is_six_hex_digits(color: Any) -> None:
    with pytest.raises(InvalidInput, match="bg_color must be six hex digits"):
        Segmentation(image_url=URL, format="jpg", bg_color=color)


def test_a_request_has_one_source() -> None:
    with pytest.raises(InvalidInput, match="must be given"):
        Segmentation()
    with pytest.raises(InvalidInput, match="excludes image_file"):
        Segmentation(image_url=URL, image_file=b"x")


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example",
        "HTTPS://Shop.Example/a%20b.jpg?x=1&y=2#part",
        "http://127.0.0.1:8000/a.png",
        "http://[::1]:8000/a.png",
        "https://shop.example:443/@user/a.png",
        "https://my_bucket.shop.example./a.png",
        "https://xn--bcher-kva.example/" + "a" * 482,
    ],
)
def test_an_ordinary_address_is_taken_as_it_is(url: str) -> None:
    assert Segmentation(image_url=url).image_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example/a.png",
        "//shop.example/a.png",
        "ftp://shop.example/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "http://",
        "http:///a.png",
        "http:shop.example/a.png",
        "http://?a",
        "http://:80/a.png",
        "http://shop.example:0/",
        "http://shop.example:65536/",
        "http://shop.example:http/",
        "http://shop.example:-1/",
        "http://[::1/a.png",
        "http://[::1]a/a.png",
        "http://[fe80::1%25eth0]/a.png",
        "http://[12345]/a.png",
        "http://shop..example/a.png",
        "http://.example/a.png",
        "http://shop%2eexample/a.png",
        "http://" + "a" * 64 + ".example/",
        "http://user@shop.example/a.png",
        "http://user:word@shop.example/a.png",
        "http://shop.example\\@evil.example/a.png",
        "http://shop.example/a b.png",
        " http://shop.example/a.png",
        "http://shop.example/a.png\n",
        "http://shop.example/\ta.png",
        "http://shop.example/a\0.png",
        "http://shop.example/ä.png",
        "http://bücher.example/a.png",
        "http://shop.example/\ud800",
        "https://shop.example/" + "a" * 492,
        b"https://shop.example/a.png",
        7,
    ],
)
def test_an_address_that_cannot_be_fetched_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInput, match="image_url must ") as refusal:
        Segmentation(image_url=url)

    str(refusal.value).encode("ascii")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@shop.example/a.png",
        "https://shop.example:x/a.png?signature=hunter2",
        "https:me:hunter2@shop.example//a",
        "HTTP://hunter2@shop.example//a//b",
        "hunter2@ftp://shop.example",
        "https://me:hunter2//@shop.example/",
    ],
)
def test_a_refused_address_keeps_its_secrets(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Segmentation(image_url=url)

    assert "hunter2" not in f"{refusal.value} {refusal.value!r} {refusal.value.args}"


def test_a_shown_address_is_short_and_printable() -> None:
    assert (
        sources.shown("https://u:p@h.example/a\x1b[2J/" + "b" * 500)[:23]
        == "https://h.example/a?[2J"
    )
    assert len(sources.shown("https://h.example/" + "b" * 500)) == 200


@pytest.fixture
def picture_path(tmp_path: Path) -> Path:
    path = tmp_path / "shoe.png"
    path.write_bytes(png_bytes())
    return path


@pytest.fixture
def unix_socket(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        yield tmp_path / "socket"


def test_a_picture_is_read_from_a_path_bytes_or_a_file(picture_path: Path) -> None:
    data = picture_path.read_bytes()

    with picture_path.open("rb") as file:
        for source in (picture_path, str(picture_path), data, file, io.BytesIO(data)):
            assert Segmentation(image_file=source).read_picture().data == data


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"header" + png_bytes())
    file.seek(6)

    assert Segmentation(image_file=file).read_picture().width == 6


def test_no_more_is_read_of_a_file_than_shows_that_it_is_too_large() -> None:
    file = Trickle(100 * 1024 * 1024)

    with pytest.raises(InvalidInput, match="15 MB"):
        Segmentation(image_file=file).read_picture()  # type: ignore[arg-type]

    assert file.given == pictures.MAX_BYTES + 1


def test_a_large_file_on_disk_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, 1 << 40)

    with pytest.raises(InvalidInput, match="15 MB"):
        Segmentation(image_file=path).read_picture()


def test_a_path_without_a_regular_file_is_refused(tmp_path: Path, unix_socket: Path) -> None:
    for path, hint in (
        (tmp_path / "missing.png", "file that exists"),
        ("https://shop.example/a.png", "image_url"),
        ("", "file that exists"),
        (tmp_path, "not a directory"),
        ("/dev/zero", "not a device"),
        (unix_socket, "not a device, pipe or socket"),
        ("a\0b", "null byte"),
        ("a" * 5000, "too long"),
    ):
        with pytest.raises(InvalidInput, match=hint):
            Segmentation(image_file=path)


def test_an_unreadable_file_is_refused() -> None:
    program = (
        "import os, sys; from cutwork import errors, request\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"  # root may read everything
        "try: request.Segmentation(image_file=sys.argv[1])\n"
        "except errors.InvalidInput as error: print(error)\n"
        "os.seteuid(os.getuid())\n"
    )
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "shoe.png")
        path.write_bytes(png_bytes())
        path.chmod(0)

        said = subprocess.check_output([sys.executable, "-c", program, path], timeout=60)

    assert b"must name a readable file (Permission denied)" in said


def test_a_file_that_vanishes_before_it_is_read_is_refused(picture_path: Path) -> None:
    request = Segmentation(image_file=picture_path)
    picture_path.unlink()

    with pytest.raises(InvalidInput, match="cannot be read"):
        request.read_picture()


class Upload:
    """What an asynchronous web framework hands out."""

    async def read(self, size: int = -1) -> bytes:
        return b"x" * size


class Odd:
    """A file object whose read() gives what it was told to."""

    def __init__(self, piece: object) -> None:
        self.piece = piece

    def read(self, _size: int = -1) -> object:
        if isinstance(self.piece, Exception):
            raise self.piece
        return self.piece


def test_a_source_of_another_kind_is_refused(picture_path: Path) -> None:
    closed = picture_path.open("rb")
    closed.close()
    with picture_path.open() as text, (picture_path.parent / "out").open("wb") as written:
        for source, hint in (
            (7, "got 'int'"),
            (bytearray(b"x"), "got 'bytearray'"),
            ([b"x"], "got 'list'"),
            (text, "binary mode"),
            (io.StringIO("x"), "binary mode"),
            (closed, "must be open"),
            (written, "open for reading"),
            (Upload(), "coroutine"),
        ):
            with pytest.raises(InvalidInput, match=hint):
                Segmentation(image_file=source)  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", ["text", None, 5, OSError("gone"), ValueError("closed")])
def test_a_file_that_does_not_give_bytes_is_refused(piece: object) -> None:
    with pytest.raises(InvalidInput, match="image_file"):
        Segmentation(image_file=Odd(piece)).read_picture()  # type: ignore[arg-type]


def test_a_picture_of_an_address_is_not_read() -> None:
    with pytest.raises(InvalidInput, match="must be set to be read"):
        Segmentation(image_url=URL).read_picture()


def test_the_bytes_of_a_picture_are_not_in_the_repr() -> None:
    assert len(repr(Segmentation(image_file=b"x" * 100_000))) < 300
    assert len(repr(pictures.examine(png_bytes()))) < 300


@pytest.mark.parametrize(
    ("request_", "picture"),
    [
        (Segmentation(image_url=URL), None),
        (Segmentation(image_url=URL, type="person", output_type=1, crop=True), None),
        (Segmentation(image_file=b"x", format="jpg", bg_color="00ff00"), stored()),
    ],
)
def test_a_row_reads_back_what_was_asked(
    request_: Segmentation, picture: StoredPicture | None
) -> None:
    row = json.loads(json.dumps(request_.to_json(picture)))

    back = Request.from_json(row)

    assert back == request_.stored(picture)
    assert back.fields() == request_.fields()
    assert back.outputs == request_.outputs
    assert (back.image_url, back.image_file) == (request_.image_url, picture)
    assert back.to_json() == row


def test_the_row_has_plain_values_and_one_source() -> None:
    assert Segmentation(image_url=URL).to_json() == {
        "image_url": URL,
        "type": "",
        "output_type": 2,
        "crop": False,
        "format": "png",
        "bg_color": None,
    }
    row = Segmentation(image_file=b"x").to_json(stored())
    assert "image_url" not in row
    assert row["image_file"] == dataclasses.asdict(stored())


def test_a_row_of_another_version_can_be_read() -> None:
    newer = {**Segmentation(image_file=b"x").to_json(stored()), "kind": "scale"}
    newer["image_file"]["colours"] = 3

    assert Request.from_json(newer).image_file == stored()
    assert Request.from_json({"image_url": URL}) == Segmentation(image_url=URL).stored()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({}, "image_url"),
        ([], "image_url"),
        (None, "request"),
        ({"image_url": f"{URL} "}, "image_url"),
        ({"image_url": URL, "output_type": 9}, "output_type"),
        ({"image_url": URL, "crop": "yes"}, "crop"),
        ({"image_url": URL, "bg_color": "ffffff"}, "bg_color"),
        ({"image_file": {"uri": "file:///etc/passwd"}}, "request"),
    ],
)
def test_a_row_that_was_written_by_hand_is_checked_and_not_quoted(row: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Request.checked(row)

    assert refused.value.field == field
    assert "passwd" not in str(refused.value)


def test_a_row_that_keeps_the_rules_is_the_same_checked_or_not() -> None:
    by_url = {"image_url": URL, "type": "stamp", "crop": True}
    own = Segmentation(image_file=b"x", format="jpg").to_json(stored())

    assert Request.checked(by_url) == Request.from_json(by_url)
    assert Request.checked(own) == Request.from_json(own)


def test_a_stored_picture_belongs_to_a_file() -> None:
    file, url = Segmentation(image_file=b"x"), Segmentation(image_url=URL)
    for wrong, picture in ((file, None), (url, stored())):
        with pytest.raises(InvalidInput, match="picture must be given with image_file"):
            wrong.to_json(picture)
        with pytest.raises(InvalidInput, match="picture must be given with image_file"):
            wrong.digest(picture)


def test_a_stored_picture_keeps_what_was_examined() -> None:
    data = png_bytes()
    picture = pictures.examine(data)

    kept = StoredPicture.of(picture, "file:///s/a.png")

    assert kept == stored(sha256=picture.sha256, size=len(data))


def test_the_digest_is_of_what_is_asked_and_not_of_where_it_lies() -> None:
    request = Segmentation(image_file=b"x")
    here, there = stored(), stored(uri="s3://elsewhere/b.png")

    assert request.digest(here) == request.digest(there)
    assert request.digest(here) == Segmentation(image_file="/dev/../etc/hostname").digest(here)
    assert request.digest(here) != request.digest(stored(sha256="cd" * 32))
    assert len(request.digest(here)) == 64


def test_the_digest_sees_every_field() -> None:
    same = [Segmentation(image_url=URL), Segmentation(image_url=URL, crop=0, output_type=2)]  # type: ignore[arg-type]
    others = [
        Segmentation(image_url=URL + "?"),
        Segmentation(image_url=URL, type="object"),
        Segmentation(image_url=URL, output_type=3),
        Segmentation(image_url=URL, crop=True),
        Segmentation(image_url=URL, format="jpg"),
        Segmentation(image_url=URL, format="jpg", bg_color="000000"),
    ]

    assert len({request.digest() for request in same}) == 1
    assert len({request.digest() for request in same + others}) == 1 + len(others)


def test_the_digest_stays_the_same_from_version_to_version() -> None:
    request = Segmentation(image_url=URL, type="object", format="jpg", bg_color="ffffff")

    assert request.digest() == PINNED


def test_differences_name_the_fields() -> None:
    old = Segmentation(image_url=URL).to_json()

    def ask(**options: Any) -> dict[str, Any]:
        return Segmentation(image_url=URL, **options).to_json()

    assert differences(old, ask()) == []
    assert differences(old, ask(crop=True, type="stamp")) == ["crop", "type"]
    file = Segmentation(image_file=b"x").to_json(stored())
    assert differences(old, file) == ["image_file", "image_url"]
    elsewhere = Segmentation(image_file=b"x").to_json(stored(uri="s3://b/c", size=10))
    assert differences(file, elsewhere) == []
    another = Segmentation(image_file=b"x").to_json(stored(sha256="cd" * 32))
    assert differences(file, another) == ["image_file"]


def test_a_request_needs_no_http_library_no_bucket_and_no_decoder() -> None:
    program = (
        "import sys, cutwork.request\n"
        "print(sorted({'requests', 'obstore', 'PIL', 'celery'} & set(sys.modules)))"
    )

    assert subprocess.check_output([sys.executable, "-c", program], timeout=60) == b"[]\n"
