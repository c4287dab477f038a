"""What a picture is, told from its bytes: never from a file name or a Content-Type.

``examine`` is for pictures that we are about to pay for: it decodes them. ``inspect_result`` is for
pictures that the provider made: it reads their structure, and counts a PNG's pixels.
"""

import re
import struct
import zlib
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from io import BytesIO
from typing import Any

from cutwork import anatomy
from cutwork.anatomy import Data
from cutwork.errors import InvalidInput

MAX_BYTES = 15 * 1024 * 1024
MAX_SIDE = 4096  # px
MAX_RESULT_PIXELS = 64_000_000
# Each scan of a progressive JPEG visits every pixel again; encoders write about ten.
MAX_SCANS = 64

# Pillow's plugins by our name for the format, which is also the usual suffix of a file.
_PLUGINS = {"jpg": "Jpeg", "png": "Png", "bmp": "Bmp", "webp": "WebP", "tiff": "Tiff"}
FORMATS = tuple(_PLUGINS)

_SIGNATURES = [
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\xd8\xff", "jpg"),
        (rb"\x89PNG\r\n\x1a\n", "png"),
        (rb"BM", "bmp"),
        (rb"RIFF....WEBP", "webp"),
        (rb"II\*\0|MM\0\*", "tiff"),
        (rb"II\+\0|MM\0\+", "a BigTIFF picture"),
        (rb"GIF8[79]a", "a GIF picture"),
        (rb"....ftyp(?:hei|hev|mif|msf)", "a HEIC picture"),
        (rb"....ftypavi[fs]", "an AVIF picture"),
        (rb"....ftyp", "a video"),
        (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
        (rb"8BPS", "a Photoshop document"),
        (rb"\x00\x00\x01\x00", "an icon"),
        (rb"%PDF-", "a PDF document"),
        (rb"PK\x03\x04", "a ZIP archive"),
        (rb"\x1f\x8b", "gzip data"),
        (rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+)?html", "an HTML page"),
        (rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<[?!].{,900})?<svg[\s>]", "an SVG drawing"),
        (rb"(?:\xef\xbb\xbf)?\s*<", "an XML or HTML text"),
        (rb"\s*[{\[]\s*[\"{\[\]}]", "a JSON text"),
    )
]

# What Pillow raises for hostile bytes, by family; a warning, if the app turns warnings into errors.
DECODER_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was decoded once and found good; sides in pixels, ``sha256`` of the bytes."""

    data: bytes = field(repr=False)
    format: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A result that is what it should be; sides in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Defect:
    """A result that is not: ``code`` is ``wrong_type``, ``truncated`` or ``too_large``."""

    code: str
    reason: str


def sniff(head: bytes) -> str:
    """The format's name (``jpg`` …), or a phrase such as ``a GIF picture``, or an empty text."""
    return next((name for pattern, name in _SIGNATURES if pattern.match(head)), "")


def examine(data: bytes) -> Picture:
    """Decode a source picture, so that a broken one is refused before anybody pays.

    Only the first frame of an animation or a multi-page file is decoded, and a picture whose header
    claims too many pixels is refused before its pixels are.

    Raises:
        InvalidInput: empty, over 15 MB, another format, over 4096 px a side, damaged, or hostile.
    """
    if not data:
        raise _refuse("0 bytes", "must not be empty", "a file object is read from where it stands")
    if len(data) > MAX_BYTES:
        rule = f"must have at most {MAX_BYTES} bytes (15 MB)"
        raise _refuse(f"{len(data)} bytes or more", rule, "send a smaller picture")
    form = sniff(data[:1024])
    if form not in FORMATS:
        rule = f"must be a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
        raise _refuse(form or f"{data[:16]!r}", rule, "convert it first")
    _check_bones(data, form)
    width, height = _decode(data, form)
    return Picture(data, form, width, height, sha256(data).hexdigest())


def inspect_result(data: Data) -> Shape | Defect:
    """Look at a downloaded result: png, jpg or webp, all there, at most 64 megapixels."""
    if not len(data):
        return Defect("truncated", "the file is empty")
    form = sniff(data[:1024])
    if form not in ("png", "jpg", "webp"):
        return Defect("wrong_type", f"expected a png or jpg, got {form or 'unknown bytes'}")
    bones = _bones(data, form, 1000)
    if bones is not None and bones.bomb:
        return Defect("too_large", f"the {form} unpacks to more than its header has room for")
    if bones is None or not bones.whole:
        return Defect("truncated", f"the {form} is cut short or damaged")
    if bones.width < 1 or bones.height < 1:
        return Defect("wrong_type", f"the {form} has no pixels")
    if bones.width * bones.height > MAX_RESULT_PIXELS:
        return Defect("too_large", f"the {form} claims {bones.width}x{bones.height} px")
    return Shape(form, bones.width, bones.height)


def _bones(data: Data, form: str, most_scans: int) -> anatomy.Anatomy | None:
    match form:
        case "png":
            return anatomy.png(data, MAX_RESULT_PIXELS)
        case "jpg":
            return anatomy.jpeg(data, most_scans)
        case "webp":
            return anatomy.webp(data)
    return None


def _check_bones(data: bytes, form: str) -> None:
    # What Pillow lets through, or finds out too late: it checks no CRC of a png's pixels, counts
    # no scans, misses the end of one jpg in thirty that has none, and sets up a webp's canvas
    # before anybody can look at its size.
    bones = _bones(data, form, MAX_SCANS + 1)
    if bones is None:
        return
    _check_sides(bones.width, bones.height)
    if form == "png" and not bones.whole:
        raise _damaged(form, "its pixels or a chunk are missing, too many, or fail their CRC")
    if bones.scans > MAX_SCANS:
        raise _refuse(f"more than {MAX_SCANS} scans", "must be an ordinary jpg", "save it anew")
    if form == "jpg" and not bones.whole:
        raise _damaged(form, "it ends in the middle")


def _check_sides(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        rule = f"must have at most {MAX_SIDE} px a side"
        raise _refuse(f"{width}x{height}", rule, "scale it down")


def _decode(data: bytes, form: str) -> tuple[int, int]:
    from PIL.Image import DecompressionBombError

    name = _PLUGINS[form]
    # The plugin itself, not Image.open: no other decoder is tried, and a picture that is refused
    # for its size does not print Pillow's warning as well.
    plugin: Any = getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")
    try:
        with plugin(BytesIO(data)) as image:
            width, height = image.size
            _check_sides(width, height)
            image.load()
            return width, height
    except InvalidInput:
        raise
    except (*DECODER_FAULTS, DecompressionBombError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise _damaged(form, cause)


def _refuse(found: str, rule: str, remedy: str) -> InvalidInput:
    return InvalidInput("image_file", found, rule, remedy)


def _damaged(form: str, cause: str) -> InvalidInput:
    return _refuse(f"a damaged {form}", f"must be a picture that opens ({cause})", "save it anew")
