"""A job's pictures: those of our own storage, small ones made by us, full ones as they are.

Nobody else's address is ever fetched. A small picture is made once and kept in memory, up to a
bound; what is no picture (any more), or too large to be opened, has none.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.Image import DecompressionBombError

from cutwork import pictures
from cutwork.errors import StorageError
from cutwork.job import Job
from cutwork.storage import Storage

from .answering import NOT_FOUND, NOT_MODIFIED, OK, Answer, Pieces, plain

SIZES = {"thumb": 160, "preview": 1024}  # px of the longer side
NAMES = ("source", "image", "mask")
# What a browser may take a file for, by what we found it to be.
_KINDS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "bmp": "image/bmp"}
_OTHER = "application/octet-stream"
_PILLOW = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tiff": "TIFF"}
_KEPT = 32 * 1024 * 1024
_FOREVER = "private, max-age=31536000, immutable"
_FAULTS = (*pictures.DECODER_FAULTS, DecompressionBombError)


@dataclass(frozen=True)
class Piece:
    """One file of a job, as its row describes it; sides in pixels."""

    uri: str
    format: str
    width: int
    height: int
    sha256: str
    size: int

    @property
    def tag(self) -> str:
        """Another word when it is another file: part of its addresses, so they may be kept."""
        return sha256(f"{self.uri} {self.sha256}".encode()).hexdigest()[:16]


def pieces(job: Job) -> dict[str, Piece]:
    """By name: ``source`` when it is in our storage, ``image`` and ``mask`` when they are made.

    What was deleted from storage by now is not among them.
    """
    found = {}
    given = job.request.get("image_file")
    if given and job.input_purged_at is None:
        found["source"] = _piece(given)
    for name, file in job.files.items():
        if name in NAMES and file.purged_at is None:
            found[name] = _piece(vars(file))
    return found


class Gallery:
    """Safe for threads; two pictures are opened at a time, since each may take much memory."""

    def __init__(self, storage: Storage, max_bytes: int) -> None:
        self._storage, self._max_bytes = storage, max_bytes
        self._opening, self._lock = threading.Semaphore(2), threading.Lock()
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0

    def small(self, piece: Piece, size: str, etag: str) -> Answer:
        """A webp that is ``thumb`` or ``preview`` large, or smaller."""
        tag = f'"{piece.tag}-{size}"'
        extra = (("ETag", tag),)
        if etag == tag:
            return Answer(NOT_MODIFIED, kind="image/webp", cache=_FOREVER, extra=extra)
        made = self._find(piece, size)
        if made is None:
            return plain(NOT_FOUND)
        return Answer(OK, made, "image/webp", _FOREVER, extra)

    def whole(self, piece: Piece, name: str, etag: str) -> Answer:
        """The file itself, in pieces."""
        tag = f'"{piece.tag}"'
        kind = _KINDS.get(piece.format, _OTHER)
        how = "attachment" if kind == _OTHER else "inline"
        suffix = piece.format if piece.format.isalnum() else "bin"
        extra = (("ETag", tag), ("Content-Disposition", f'{how}; filename="{name}.{suffix}"'))
        if etag == tag:
            return Answer(NOT_MODIFIED, kind=kind, cache=_FOREVER, extra=extra)
        try:
            size = self._storage.size(piece.uri)
            file = self._storage.open(piece.uri)
        except StorageError:
            return plain(NOT_FOUND)
        return Answer(OK, Pieces(file), kind, _FOREVER, extra, size)

    def _find(self, piece: Piece, size: str) -> bytes | None:
        key = piece.tag, size
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._opening:
            made = self._make(piece, SIZES[size])
        if made is not None:
            self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, str], made: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._size += len(made)
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])

    def _make(self, piece: Piece, side: int) -> bytes | None:
        try:
            if self._storage.size(piece.uri) > max(self._max_bytes, pictures.MAX_BYTES):
                return None
            data = self._storage.get(piece.uri)
        except StorageError:
            return None
        return shrink(data, side)


def shrink(data: bytes, side: int) -> bytes | None:
    """A webp of at most ``side`` pixels a side; None if it is no picture that may be opened."""
    form = pictures.sniff(data[:1024])
    if form not in pictures.FORMATS:
        return None
    try:
        with Image.open(BytesIO(data), formats=[_PILLOW[form]]) as image:
            if image.width * image.height > pictures.MAX_RESULT_PIXELS:
                return None
            image.draft("RGB", (2 * side, 2 * side))  # a jpg is then read at a part of its size
            mode = "RGBA" if image.has_transparency_data else "RGB"
            small = image if image.mode == mode else image.convert(mode)
            small.thumbnail((side, side))
            out = BytesIO()
            small.save(out, "WEBP", quality=82, method=2)
    except _FAULTS:
        return None
    return out.getvalue()


def _piece(facts: Any) -> Piece:
    return Piece(
        uri=str(facts["uri"]),
        format=str(facts.get("format", "")),
        width=int(facts.get("width") or 0),
        height=int(facts.get("height") or 0),
        sha256=str(facts.get("sha256", "")),
        size=int(facts.get("size") or 0),
    )
