"""Make the output files of a task from its picture and its alpha mask."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .form import Submission
from .pictures import Pixels

PICTURE_AND_MASK, PICTURE_ONLY, MASK_ONLY = 1, 2, 3


@dataclass(frozen=True)
class Rendered:
    """Encoded outputs; a file that was not asked for is ``b""``. ``rect`` is in source pixels."""

    image: bytes
    mask: bytes
    rect: tuple[int, int, int, int]
    width: int
    height: int


def render(
    picture: Pixels, alpha: NDArray[np.uint8], asked: Submission, marks: dict[str, str]
) -> Rendered:
    """Encode what ``asked`` wants; ``marks`` go into PNG text chunks or the JPEG's comment.

    A crop of an empty mask keeps the size. The mask is always a grey PNG.
    """
    rect = foreground_rect(alpha)
    x, y, width, height = rect
    if asked.crop and width and height:
        picture = picture[y : y + height, x : x + width]
        alpha = alpha[y : y + height, x : x + width]
    image = mask = b""
    if asked.output_type != MASK_ONLY:
        image = _encode(picture, alpha, asked, marks)
    if asked.output_type != PICTURE_ONLY:
        mask = _png(Image.fromarray(alpha), marks)
    return Rendered(image, mask, rect, alpha.shape[1], alpha.shape[0])


def foreground_rect(alpha: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the pixels with any alpha; all 0 when there are none."""
    columns = np.flatnonzero(alpha.any(axis=0))
    rows = np.flatnonzero(alpha.any(axis=1))
    if not columns.size:
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def _encode(
    picture: Pixels, alpha: NDArray[np.uint8], asked: Submission, marks: dict[str, str]
) -> bytes:
    rgb = np.ascontiguousarray(picture[:, :, ::-1])
    if asked.format == "png":
        clear = alpha == 0
        rgb = np.where(clear[:, :, None], np.uint8(0), rgb)  # no background left to recover
        return _png(Image.fromarray(np.dstack([rgb, alpha])), marks)
    opacity = alpha[:, :, None].astype(np.float32) / 255
    paper = np.array(_rgb(asked.bg_color), dtype=np.float32)
    flat = rgb * opacity + paper * (1 - opacity)
    output = BytesIO()
    comment = "; ".join(f"{name}={value}" for name, value in marks.items())
    Image.fromarray(flat.round().astype(np.uint8)).save(
        output, "JPEG", quality=92, subsampling=0, comment=comment.encode()
    )
    return output.getvalue()


def _png(image: Image.Image, marks: dict[str, str]) -> bytes:
    info = PngInfo()
    for name, value in marks.items():
        info.add_text(name, value)
    output = BytesIO()
    image.save(output, "PNG", pnginfo=info, compress_level=4)
    return output.getvalue()


def _rgb(colour: str) -> tuple[int, int, int]:
    digits = "".join(2 * digit for digit in colour) if len(colour) == 3 else colour
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
