"""Open the source picture: formats, size limits, orientation."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .limits import MAX_SIDE

Pixels = NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
NOT_A_PICTURE = -7
TOO_LARGE = -5


def open_picture(content: bytes) -> Pixels | int:
    """Decode to BGR (height, width, 3), upright; or the negative state that says why not.

    A transparent picture is laid on white.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as picture:
            if max(picture.size) > MAX_SIDE:
                return TOO_LARGE
            upright = ImageOps.exif_transpose(picture)
            return _bgr(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return TOO_LARGE
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError, UserWarning):
        # Pillow's decoders tell of broken files in all of these ways.
        return NOT_A_PICTURE


def _bgr(picture: Image.Image) -> Pixels:
    if picture.mode.startswith(("I", "F")):
        deep = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        top = 65535.0 if deep.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((deep * (255.0 / top)).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(paper, layer)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8)[:, :, ::-1])
