"""A picture file without what it tells besides the picture, pixel for pixel and byte for byte.

EXIF with its places and cameras, XMP, IPTC, comments, texts, times, thumbnails, whatever follows
the end of the file, and all that has no name here are left out. What decides how the pixels look
stays as it is: the colour profile, gamma, density, animation. Of EXIF the orientation alone is
written anew when it turns the picture. Nothing is decoded, so nothing is lost by encoding it again.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from hashlib import sha256

from cutwork.anatomy import PNG_SIGNATURE, Data

Pieces = Iterator[bytes | slice]

_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD pHYs hIST"
    b" acTL fcTL fdAT".split()
)
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ICCP"))
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
_FRAME_KEPT = frozenset((b"VP8 ", b"VP8L", b"ALPH"))
_FRAME_HEAD = 8 + 16  # its name and size; place, duration and flags

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_STANDALONE = {0x01, 0xD8}
_END, _SCAN = 0xD9, 0xDA
_COMMENT, _APPS = 0xFE, range(0xE0, 0xF0)
_JFIF, _ICC, _ADOBE, _EXIF = b"JFIF\0", b"ICC_PROFILE\0", b"Adobe", b"Exif\0\0"

_ORIENTATION, _SHORT = 0x0112, 3
_MOST_TAGS = 1000
_PIECE = 1 << 20


def strip(data: Data, form: str) -> bytes:
    """The bare file; of another format than png, jpg and webp, and of no file at all, the same."""
    return b"".join(bytes(data[one]) if isinstance(one, slice) else one for one in _of(data, form))


class Stripped:
    """A file's bare form, in pieces of at most a megabyte.

    ``size`` (bytes) and ``sha256`` (hex) are of what was given out so far.
    """

    def __init__(self, data: Data, form: str) -> None:
        self._data, self._form = data, form
        self._digest, self.size = sha256(), 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for piece in _cut(self._data, self._form):
            self._digest.update(piece)
            self.size += len(piece)
            yield piece


def _cut(data: Data, form: str) -> Iterator[bytes]:
    for one in _of(data, form):
        if isinstance(one, bytes):
            yield one
            continue
        for at in range(one.start, one.stop, _PIECE):
            yield data[at : min(at + _PIECE, one.stop)]


def _of(data: Data, form: str) -> Pieces:
    if form == "png" and data[:8] == PNG_SIGNATURE:
        return _png(data)
    if form == "jpg" and data[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    if form == "webp" and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return iter((slice(0, len(data)),))


def _png(data: Data) -> Pieces:
    yield slice(0, 8)
    at, turn = 8, 1
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = min(at + 12 + size, len(data))
        if kind == b"eXIf" and turn == 1:
            turn = orientation(data[at + 8 : end - 4])
        if kind in (b"IDAT", b"IEND") and turn > 1:
            yield _chunk(b"eXIf", _turned(turn))
            turn = 0
        if kind in _PNG_KEPT:
            yield slice(at, end)
        at = end
        if kind == b"IEND":
            return


def _chunk(kind: bytes, content: bytes) -> bytes:
    said = kind + content
    return struct.pack(">I", len(content)) + said + struct.pack(">I", zlib.crc32(said))


def _jpeg(data: Data) -> Pieces:
    """Segments that tell something are left out, and what is between segments but no pixels."""
    yield slice(0, 2)
    kept = at = 2
    turned = scanning = False
    while marker := _MARKER.search(data, at):
        code, start, before, at = marker[1][0], marker.start(), at, marker.end()
        if start > before and not scanning:
            yield slice(kept, before)
            kept = start
        if code == _END:
            break
        if code in _STANDALONE:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end < at + 2 or end > len(data):
            at = len(data)
            break
        if code == _COMMENT or code in _APPS:
            yield slice(kept, start)
            content = data[at + 2 : end]
            if code == 0xE1 and content.startswith(_EXIF) and not turned:
                turn = orientation(content[len(_EXIF) :])
                turned = turn > 1
                if turned:
                    yield _segment(0xE1, _EXIF + _turned(turn))
            yield _bare_segment(code, content)
            kept = end
        at, scanning = end, code == _SCAN
    else:
        at = len(data)
    yield slice(kept, at)


def _bare_segment(code: int, content: bytes) -> bytes:
    """The segment as it stays; nothing, if it does not."""
    match code:
        case 0xE0 if content.startswith(_JFIF) and len(content) >= 12:
            return _segment(code, content[:12] + b"\0\0")  # without its thumbnail
        case 0xE2 if content.startswith(_ICC):
            return _segment(code, content)
        case 0xEE if content.startswith(_ADOBE):
            return _segment(code, content[:12])
    return b""


def _segment(code: int, content: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def _webp(data: Data) -> Pieces:
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    pieces: list[bytes | slice] = []
    at, turn = 12, 1
    while at + 8 <= end:
        size, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4]
        stop = min(at + 8 + size + size % 2, len(data))
        if kind == b"EXIF" and turn == 1:
            turn = orientation(data[at + 8 : stop].removeprefix(_EXIF))
        if kind == b"ANMF":
            pieces += _webp_frame(data, at, stop)
        elif kind in _WEBP_KEPT:
            pieces.append(slice(at, stop))
            if stop % 2:  # some leave out the last padding
                pieces.append(b"\0")
        at = stop
    if turn > 1 and data[12:16] == b"VP8X":
        told = _turned(turn)
        pieces.append(b"EXIF" + struct.pack("<I", len(told)) + told)
    first = pieces[0] if pieces else b""
    if data[12:16] == b"VP8X" and len(data) > 20 and isinstance(first, slice):
        flags = data[first.start + 8] & ~_WEBP_XMP & ~_WEBP_EXIF
        flags |= _WEBP_EXIF if turn > 1 else 0
        head = data[first.start : first.start + 8]
        pieces[0:1] = [head + bytes((flags,)), slice(first.start + 9, first.stop)]
    size = 4 + sum(len(one) if isinstance(one, bytes) else one.stop - one.start for one in pieces)
    yield b"RIFF" + struct.pack("<I", size) + b"WEBP"
    yield from pieces


def _webp_frame(data: Data, at: int, stop: int) -> Pieces:
    """A frame of an animation is a file in the file, and may hide the same things."""
    part = min(at + _FRAME_HEAD, stop)
    kept = [slice(at + 8, part)]
    while part + 8 <= stop:
        size, kind = int.from_bytes(data[part + 4 : part + 8], "little"), data[part : part + 4]
        end = min(part + 8 + size + size % 2, stop)
        if kind in _FRAME_KEPT:
            kept.append(slice(part, end))
        part = end
    size = sum(one.stop - one.start for one in kept)
    yield b"ANMF" + struct.pack("<I", size)
    yield from kept
    if size % 2:
        yield b"\0"


def orientation(exif: bytes) -> int:
    """How a picture is to be turned, 1 to 8, as its EXIF says; 1 when it says nothing of it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for number in range(min(count, _MOST_TAGS)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * number)
            if (tag, kind) == (_ORIENTATION, _SHORT):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _turned(turn: int) -> bytes:
    """EXIF that says the orientation and nothing else."""
    tag = struct.pack("<HHIHH", _ORIENTATION, _SHORT, 1, turn, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + tag + struct.pack("<I", 0)
