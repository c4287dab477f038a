"""Source pictures: what is opened, and how."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutwork.sandbox.pictures import NOT_A_PICTURE, TOO_LARGE, open_picture


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    output = BytesIO()
    picture.save(output, kind, **options)
    return output.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_the_documents_formats_are_opened(make_png: Any, kind: str) -> None:
    assert open_picture(make_png(40, 30, kind)).shape == (30, 40, 3)


def test_a_gif_is_not_taken(make_png: Any) -> None:
    assert open_picture(make_png(kind="GIF")) == NOT_A_PICTURE


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"])
def test_every_mode_becomes_bgr(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 5), 65535, np.uint16))
    else:
        picture = Image.new("L", (5, 4), 255).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"

    pixels = open_picture(encoded(picture, kind))

    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()


def test_the_channels_are_blue_green_red() -> None:
    assert open_picture(encoded(Image.new("RGB", (1, 1), (1, 2, 3))))[0, 0].tolist() == [3, 2, 1]


def test_a_transparent_picture_is_laid_on_white() -> None:
    assert (open_picture(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))) == 255).all()


def test_a_lying_picture_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (40, 20))

    assert open_picture(encoded(picture, "JPEG", exif=exif)).shape == (40, 20, 3)


@pytest.mark.parametrize("size", [(4097, 1), (1, 4097), (12000, 12000)])
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    assert open_picture(encoded(Image.new("1", size))) == TOO_LARGE


def test_4096_pixels_are_opened() -> None:
    assert open_picture(encoded(Image.new("L", (4096, 3)))).shape == (3, 4096, 3)


@pytest.mark.parametrize("keep", [0, 1, 8, 20, 33, 60, 200])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_a_broken_picture_is_no_picture(make_png: Any, kind: str, keep: int) -> None:
    assert open_picture(make_png(40, 30, kind)[:keep]) == NOT_A_PICTURE


def test_text_is_no_picture() -> None:
    assert open_picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == NOT_A_PICTURE
