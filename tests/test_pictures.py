"""Pictures are told from their bytes, and a bad one is refused before anybody pays."""

import hashlib
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cutwork import pictures
from cutwork.errors import InvalidInput
from cutwork.pictures import Defect, Shape, examine, inspect_result, sniff

SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'


def encode(form: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> bytes:
    image = Image.effect_noise(size, 90).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(width: int, height: int, pixels: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory; ``tags`` maps a tag to its type and value."""
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + tail


def tiff_with_huge_tile() -> bytes:
    return tiff(
        {
            256: (4, 64),
            257: (4, 64),
            258: (3, 8),
            259: (3, 5),
            262: (3, 1),
            277: (3, 1),
            322: (4, 0x7FFFFFF0),
            323: (4, 0x7FFFFFF0),
            324: (4, 8),
            325: (4, 64),
        },
        b"\0" * 64,
    )


def tiff_with_a_loop_of_directories() -> bytes:
    body = bytearray(encode("TIFF"))
    body[4:8] = struct.pack("<I", len(body) + 100)
    return bytes(body)


def webp_claiming(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0"
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def jpeg_with_scans(count: int) -> bytes:
    whole = encode("JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * count + b"\xff\xd9"


def damaged_in_the_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "png header that claims 60000x60000": lambda: png(60000, 60000, zlib.compress(b"\0" * 100)),
    "png with sides of 2^31": lambda: png(0x7FFFFFFF, 0x7FFFFFFF, b""),
    "png without pixels": lambda: png(0, 0, zlib.compress(b"")),
    "png whose pixels run out": lambda: png(4096, 4096, zlib.compress(b"\0" * 1000)),
    "png that unpacks without end": lambda: png(
        8, 8, zlib.compress(b"\0"), chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 50_000_000))
    ),
    "png with a bad crc": lambda: damaged_in_the_middle(encode("PNG")),
    "png without its end": lambda: encode("PNG")[:-12],
    "png cut in the middle": lambda: encode("PNG")[:2000],
    "png that is only a signature": lambda: b"\x89PNG\r\n\x1a\n",
    "png signature before a jpeg": lambda: b"\x89PNG\r\n\x1a\n" + encode("JPEG"),
    "jpeg cut in the middle": lambda: encode("JPEG")[:900],
    "jpeg that is only a marker": lambda: b"\xff\xd8\xff",
    "jpeg that claims 65535x65535": lambda: encode("JPEG").replace(
        struct.pack(">HH", 48, 64), b"\xff\xff\xff\xff"
    ),
    "jpeg with a thousand scans": lambda: jpeg_with_scans(1000),
    "webp that claims 16 million px": lambda: webp_claiming(1 << 24, 64),
    "webp that claims 16383x16383": lambda: webp_claiming(16383, 16383),
    "webp cut in the middle": lambda: encode("WEBP", lossless=True)[:1000],
    "tiff with a huge tile": tiff_with_huge_tile,
    "tiff whose directory is past the end": tiff_with_a_loop_of_directories,
    "tiff that claims 2^31 px": lambda: tiff({256: (4, 1 << 31), 257: (4, 1 << 31), 258: (3, 8)}),
    "bmp that claims 2^31 px": lambda: (
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 0x7FFFFFFF, 0x7FFFFFFF, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "text that starts like a bmp": lambda: b"BMW builds cars, not pictures." * 9,
    "noise": lambda: bytes(range(256)) * 20,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_picture_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InvalidInput, match="image_file must ") as refusal:
        examine(HOSTILE[name]())

    assert refusal.value.field == "image_file"
    assert len(str(refusal.value)) < 400


def test_hostile_pictures_take_little_memory_and_time(tmp_path: Path) -> None:
    for number, make in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.bin").write_bytes(make())
    program = (
        "import re, resource, sys, pathlib\n"
        "from cutwork import pictures, errors\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, 700 << 20))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.bin'):\n"
        "    try: pictures.examine(path.read_bytes())\n"
        "    except errors.InvalidInput: continue\n"
        "    sys.exit(path.name)\n"
        # Not ru_maxrss: that begins with what the parent process had.
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 250_000  # KiB


@pytest.mark.parametrize(
    ("form", "name"),
    [("JPEG", "jpg"), ("PNG", "png"), ("BMP", "bmp"), ("WEBP", "webp"), ("TIFF", "tiff")],
)
def test_a_good_picture_of_each_format_is_measured(form: str, name: str) -> None:
    data = encode(form)

    picture = examine(data)

    assert (picture.format, picture.width, picture.height) == (name, 64, 48)
    assert picture.data is data
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {"progressive": True}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("WEBP", "RGBA", {"lossless": True}),
    ],
)
def test_unusual_but_good_pictures_are_taken(form: str, mode: str, options: dict[str, Any]) -> None:
    assert examine(encode(form, mode=mode, **options)).width == 64


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "MPO"])
def test_an_animation_counts_as_its_first_frame(form: str) -> None:
    more = [Image.effect_noise((64, 48), value).convert("RGB") for value in (10, 50)]

    picture = examine(encode(form, save_all=True, append_images=more))

    assert (picture.width, picture.height) == (64, 48)


def test_a_picture_of_the_largest_side_is_taken_and_one_pixel_more_is_not() -> None:
    assert examine(encode("PNG", (4096, 1))).width == 4096
    with pytest.raises(InvalidInput, match=r"at most 4096 px a side, got '1x4097'"):
        examine(encode("PNG", (1, 4097)))


def test_fifteen_megabytes_are_taken_and_one_byte_more_is_not() -> None:
    data = encode("BMP")
    padded = data + b"\0" * (pictures.MAX_BYTES - len(data))

    assert examine(padded).format == "bmp"
    with pytest.raises(InvalidInput, match="15 MB"):
        examine(padded + b"\0")


def test_a_picture_with_something_else_behind_it_is_what_it_starts_with() -> None:
    assert examine(encode("JPEG") + b"PK\x03\x04 and a zip").format == "jpg"
    with pytest.raises(InvalidInput, match="an HTML page"):
        examine(b"<html><!--" + encode("JPEG") + b"--></html>")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "a GIF picture"),
        (b"\n <!DOCTYPE html>\n<title>404</title>", "an HTML page"),
        (b"<HTML><body>", "an HTML page"),
        (SVG, "an SVG drawing"),
        (b"<svg viewBox='0 0 1 1'>", "an SVG drawing"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "an XML or HTML text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "a video"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b'{"status": 200}', "a JSON text"),
        (b"II+\0\x08\0\0\0", "a BigTIFF picture"),
        (b"what is this", "what is this"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, found: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        examine(data)

    assert found in str(refusal.value)


def test_an_unknown_file_has_no_name() -> None:
    assert sniff(b"\x01\x02\x03") == ""


def test_pillow_is_not_imported_before_a_picture_is_examined() -> None:
    program = "import sys, cutwork.request; sys.exit('PIL' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("form", "options", "name"),
    [
        ("PNG", {"mode": "RGBA"}, "png"),
        ("JPEG", {}, "jpg"),
        ("JPEG", {"progressive": True}, "jpg"),
        ("WEBP", {}, "webp"),
        ("WEBP", {"lossless": True}, "webp"),
        ("WEBP", {"mode": "RGBA"}, "webp"),
    ],
)
def test_a_result_is_measured_without_decoding(
    form: str, options: dict[str, Any], name: str, tmp_path: Path
) -> None:
    data = encode(form, **options)
    path = tmp_path / "result"
    path.write_bytes(data)

    assert inspect_result(data) == Shape(name, 64, 48)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        assert inspect_result(mapped) == Shape(name, 64, 48)


def test_a_jpg_without_its_end_is_refused_whatever_its_pixels_are() -> None:
    for _ in range(300):  # noise, of which Pillow takes one picture in thirty for whole
        with pytest.raises(InvalidInput, match="a damaged jpg"):
            examine(encode("JPEG")[:-2])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_result_cut_at_any_byte_is_never_taken(form: str) -> None:
    data = encode(form, (16, 16))

    shapes = [cut for cut in range(len(data)) if isinstance(inspect_result(data[:cut]), Shape)]

    assert shapes == []


def test_the_thumbnail_in_a_jpeg_is_not_taken_for_the_picture() -> None:
    whole, small = encode("JPEG"), encode("JPEG", (8, 8))
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    data = whole[:2] + segment + whole[2:]

    assert inspect_result(data) == Shape("jpg", 64, 48)
    assert isinstance(inspect_result(data[: len(segment) + 300]), Defect)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (b"<html>Bad Gateway</html>", "wrong_type"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "wrong_type"),
        (encode("BMP"), "wrong_type"),
        (b"\x1f\x8b\x08\0", "wrong_type"),
        (png(60000, 60000, b"x"), "too_large"),
        (png(0, 5, b"x"), "wrong_type"),
        (damaged_in_the_middle(encode("PNG")), "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "truncated"),
        (b"\xff\xd8\xff\xe0\0\0" + b"\0" * 40, "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (b"RIFF\x20\0\0\0WEBPJUNK" + b"\0" * 40, "truncated"),
    ],
)
def test_a_defect_of_a_result_has_its_code(data: bytes, code: str) -> None:
    defect = inspect_result(data)

    assert isinstance(defect, Defect)
    assert defect.code == code
