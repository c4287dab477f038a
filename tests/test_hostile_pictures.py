"""Pictures that were made to do harm: what becomes of each before we pay, and as a result.

A result is never decoded, so one that only a decoder would find bad is kept as it is.
"""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest
from PIL import Image

from cutwork.errors import InvalidInput
from cutwork.pictures import Defect, examine, inspect_result
from tests.test_pictures import SVG, chunk, encode, png, webp_claiming

# Unpacked, each is of several hundred megabytes; packed, of a few hundred kilobytes.
_ZEROS = zlib.compress(bytes(300 << 20), 1)


def in_one_chunk(kind: bytes, body: bytes) -> bytes:
    whole = encode("PNG")
    return whole[:33] + chunk(kind, body) + whole[33:]


def in_many_chunks(kind: bytes, body: bytes, count: int) -> bytes:
    whole = encode("PNG")
    return whole[:33] + chunk(kind, body) * count + whole[33:]


def frames(form: str) -> bytes:
    more = [Image.effect_noise((64, 48), value).convert("RGB") for value in (10, 50)]
    return encode(form, save_all=True, append_images=more)


def interlaced(size: tuple[int, int], spare: int) -> bytes:
    """An Adam7 PNG of 8 grey bits whose pixels are ``spare`` bytes more than there are."""
    width, height = size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
    room = 0
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        room += rows * (columns + 1) if columns else 0
    pixels = chunk(b"IDAT", zlib.compress(bytes(room + spare)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def with_exif(size: int) -> bytes:
    segment = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + b"\0" * 65527
    whole = encode("JPEG")
    return whole[:2] + segment * (size // 65537) + whole[2:]


def crc_broken() -> bytes:
    whole = bytearray(encode("PNG"))
    whole[whole.index(b"IDAT") - 8 - 1] ^= 1  # of IHDR
    return bytes(whole)


@dataclass(frozen=True)
class Hostile:
    """``examined``: taken before we pay. ``code``: the defect as a result; empty: kept."""

    name: str
    make: Callable[[], bytes]
    examined: bool
    code: str


CORPUS = [
    Hostile("a bomb in the pixels", lambda: png(8, 8, _ZEROS), False, "too_large"),
    Hostile(
        "a bomb in many chunks of pixels",
        lambda: png(8, 8, _ZEROS[:9000], chunk(b"IDAT", _ZEROS[:9000]) * 9),
        False,
        "too_large",
    ),
    Hostile(
        "a bomb by its header", lambda: png(65535, 65535, zlib.compress(b"\0")), False, "too_large"
    ),
    Hostile(
        "the header's bomb and the pixels' together",
        lambda: png(0x7FFFFFFF, 0x7FFFFFFF, _ZEROS),
        False,
        "too_large",
    ),
    Hostile("interlaced, all there", lambda: interlaced((37, 21), 0), True, ""),
    Hostile("interlaced, a byte too few", lambda: interlaced((37, 21), -1), False, "truncated"),
    Hostile("a bomb, interlaced", lambda: interlaced((37, 21), 1 << 20), False, "too_large"),
    Hostile("some bytes too many", lambda: png(8, 8, zlib.compress(bytes(80))), True, ""),
    Hostile(
        "pixels that run out", lambda: png(4000, 4000, zlib.compress(b"\0")), False, "truncated"
    ),
    Hostile("pixels that are no zlib", lambda: png(8, 8, b"\x78\x9cnonsense"), False, "truncated"),
    Hostile(
        "a colour that is none",
        lambda: encode("PNG").replace(
            struct.pack(">IIBB", 64, 48, 8, 2), struct.pack(">IIBB", 64, 48, 8, 5)
        ),
        False,
        "truncated",
    ),
    Hostile("half a png", lambda: encode("PNG")[:1500], False, "truncated"),
    Hostile("half a jpg", lambda: encode("JPEG")[:800], False, "truncated"),
    Hostile("half a webp", lambda: encode("WEBP", lossless=True)[:800], False, "truncated"),
    Hostile("a webp without pixels", lambda: webp_claiming(64, 48), False, "truncated"),
    Hostile("a jpg without an end", lambda: encode("JPEG")[:-2], False, "truncated"),
    Hostile("a broken CRC", crc_broken, False, "truncated"),
    Hostile("a png of no size", lambda: png(0, 0, zlib.compress(b"")), False, "wrong_type"),
    Hostile("no bytes at all", lambda: b"", False, "truncated"),
    Hostile("HTML", lambda: b"<!doctype html><title>502</title>", False, "wrong_type"),
    Hostile(
        "an SVG with a script", lambda: SVG + b"<script>alert(1)</script>", False, "wrong_type"
    ),
    Hostile("a GIF", lambda: encode("GIF"), False, "wrong_type"),
    Hostile("a BMP", lambda: encode("BMP"), True, "wrong_type"),
    Hostile("a png that is a ZIP too", lambda: encode("PNG") + b"PK\x03\x04" * 99, True, ""),
    Hostile(
        "a jpg that is HTML too",
        lambda: encode("JPEG", comment=b"<html><script>alert(1)</script>"),
        True,
        "",
    ),
    Hostile("garbage after the end", lambda: encode("WEBP") + bytes(9999), True, ""),
    Hostile("an animated png", lambda: frames("PNG"), True, ""),
    Hostile("an animated webp", lambda: frames("WEBP"), True, ""),
    Hostile(
        "a bomb in a colour profile", lambda: in_one_chunk(b"iCCP", b"i\0\0" + _ZEROS), False, ""
    ),
    Hostile("a bomb in a text", lambda: in_one_chunk(b"zTXt", b"k\0\0" + _ZEROS), False, ""),
    Hostile(
        "a bomb in an international text",
        lambda: in_one_chunk(b"iTXt", b"k\0\1\0\0\0" + _ZEROS),
        False,
        "",
    ),
    Hostile(
        "a thousand texts",
        lambda: in_many_chunks(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 19)), 1000),
        False,
        "",
    ),
    Hostile("ten megabytes of EXIF", lambda: with_exif(10 << 20), True, ""),
]


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_each_has_its_outcome(hostile: Hostile, tmp_path: Path) -> None:
    data, path = hostile.make(), tmp_path / "result"
    path.write_bytes(data)
    inspected = [inspect_result(data)]

    try:
        examined = bool(examine(data))
    except InvalidInput:
        examined = False
    if data:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            inspected.append(inspect_result(mapped))

    assert examined is hostile.examined
    assert {one.code if isinstance(one, Defect) else "" for one in inspected} == {hostile.code}


def test_all_of_them_together_fit_into_little_memory_and_time(tmp_path: Path) -> None:
    for number, hostile in enumerate(CORPUS):
        (tmp_path / f"{number}.bin").write_bytes(hostile.make())
    program = (
        "import mmap, re, resource, sys, pathlib\n"
        "from cutwork import pictures, errors\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (30, 30))\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.bin'):\n"
        "    if not path.stat().st_size: continue\n"
        "    with path.open('rb') as file:\n"
        "        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "    pictures.inspect_result(mapped)\n"
        "    try: pictures.examine(path.read_bytes())\n"
        "    except errors.InvalidInput: pass\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 250_000  # KiB


def test_one_large_chunk_takes_no_longer_than_many_small_ones() -> None:
    out = io.BytesIO()
    Image.effect_noise((4096, 2048), 90).convert("RGB").save(out, "PNG", compress_level=0)
    whole, pixels, at = out.getvalue(), b"", 8
    while at < len(whole):
        size = int.from_bytes(whole[at : at + 4], "big")
        pixels += whole[at + 8 : at + 8 + size] if whole[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + size
    packed = whole[:33] + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

    assert inspect_result(packed) == inspect_result(whole)
