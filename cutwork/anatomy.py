"""The bones of a picture file: its size in pixels and whether its end is there, without decoding.

Memory stays small whatever a header claims, and no decoder meets hostile bytes.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

Data = bytes | mmap

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PIECE = 1 << 16
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row of each pass of an interlaced PNG, and the steps between them.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)

# A marker is FF and a byte that is neither stuffing (00), fill (FF) nor a restart (D0 to D7).
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_STANDALONE = {0x01, 0xD8}
_END, _SCAN = 0xD9, 0xDA
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Anatomy:
    """``whole`` is false for a file that is cut short or damaged; ``scans`` is a JPEG's.

    ``bomb``: it unpacks to more than its header has room for.
    """

    width: int
    height: int
    whole: bool
    scans: int = 1
    bomb: bool = False


def png(data: Data, most_pixels: int) -> Anatomy | None:
    """Walk the chunks up to IEND and check the CRC of those that a decoder needs.

    Up to ``most_pixels`` the pixels are unpacked too, piece by piece, to see that they are as many
    as the header says.
    """
    if len(data) < 33 or data[:8] != PNG_SIGNATURE or data[8:16] != b"\0\0\0\x0dIHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    with memoryview(data) as view:
        room = _png_room(width, height, data[24:29]) if width * height <= most_pixels else None
        pixels = _Pixels(room)
        whole = _png_is_whole(view, pixels)
        return Anatomy(width, height, whole and pixels.enough, bomb=pixels.spilt)


def jpeg(data: Data, most_scans: int = 1000) -> Anatomy | None:
    """Walk the markers up to the end of the image; stop after ``most_scans`` scans."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    width = height = scans = 0
    at = 2
    while scans < most_scans and (marker := _MARKER.search(data, at)):
        code, at = marker[1][0], marker.end()
        if code == _END:
            return Anatomy(width, height, scans > 0, scans)
        if code in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            break
        if code in _FRAMES and length >= 8 and not width:
            height, width = struct.unpack(">HH", data[at + 3 : at + 7])
        scans += code == _SCAN
        at += length
    return Anatomy(width, height, False, scans)


def webp(data: Data) -> Anatomy | None:
    """Read the canvas from the first chunk and the length from the RIFF header."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    end = 8 + int.from_bytes(data[4:8], "little")
    whole = len(data) >= end and _webp_has_pixels(data, end)
    match data[12:16]:
        case b"VP8X":
            width = 1 + int.from_bytes(data[24:27], "little")
            height = 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width = int.from_bytes(data[26:28], "little") & 0x3FFF
            height = int.from_bytes(data[28:30], "little") & 0x3FFF
        case _:
            return None
    return Anatomy(width, height, whole)


def _webp_has_pixels(data: Data, end: int) -> bool:
    at, seen = 12, False
    while at + 8 <= end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        seen = seen or (size > 0 and data[at : at + 4] in (b"VP8 ", b"VP8L", b"ANMF"))
        at += 8 + size + size % 2
    # The last chunk must end where the file says that it does; some leave out its padding.
    return seen and at - end in (0, 1)


class _Pixels:
    """Unpacks what it is given into nothing, and counts; ``room`` None: does not look at it."""

    def __init__(self, room: int | None) -> None:
        self._left, self._inflate = room, zlib.decompressobj()

    def take(self, packed: memoryview) -> bool:
        """False: broken, or far more than there is room for."""
        try:
            # In slices, because what zlib leaves over it copies.
            return all(self._take(packed[at : at + _PIECE]) for at in range(0, len(packed), _PIECE))
        except zlib.error:
            return False

    def _take(self, packed: bytes | memoryview) -> bool:
        while packed and self._left is not None and not self._inflate.eof and not self.spilt:
            self._left -= len(self._inflate.decompress(packed, _PIECE))
            packed = self._inflate.unconsumed_tail
        return not self.spilt

    @property
    def enough(self) -> bool:
        return self._left is None or self._left <= 0

    @property
    def spilt(self) -> bool:
        # Sloppy encoders leave some bytes over, and decoders forgive it.
        return self._left is not None and self._left < -_PIECE


def _png_room(width: int, height: int, kind: Sequence[int]) -> int:
    """Bytes that the pixels unpack to; ``kind`` ends IHDR: depth, colour, two more, interlace."""
    bits = kind[0] * _CHANNELS.get(kind[1], 0)
    passes = _ADAM7 if kind[4] == 1 else ((0, 0, 1, 1),)
    room = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            room += rows * (1 + (columns * bits + 7) // 8)
    return room


def _png_is_whole(view: memoryview, pixels: _Pixels) -> bool:
    at, seen = 8, False
    while at + 12 <= len(view):
        size = int.from_bytes(view[at : at + 4], "big")
        kind, end = bytes(view[at + 4 : at + 8]), at + 12 + size
        if end > len(view):
            return False
        claimed = int.from_bytes(view[end - 4 : end], "big")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end - 4]) != claimed:
            return False
        if kind == b"IEND":
            return seen
        if kind == b"IDAT":
            seen = True
            if not pixels.take(view[at + 8 : end - 4]):
                return False
        at = end
    return False
