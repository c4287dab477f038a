"""What is kept of a result is the picture, pixel for pixel, and nothing that tells more."""

import struct
import zlib
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageSequence
from PIL.PngImagePlugin import PngInfo

from cutwork.bare import Stripped, orientation, strip
from cutwork.pictures import Shape, inspect_result

PHOTOGRAPH = Path(__file__).parents[1] / "cutwork" / "cli" / "photographs" / "grace_hopper.jpg"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>XMP-SECRET</x:xmpmeta>"
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
TELLTALES = (b"CAMERA-SECRET", b"XMP-SECRET", b"TEXT-SECRET", b"AFTER-SECRET", b"Exif\0\0MM")
GPS = 0x8825

each_format = pytest.mark.parametrize("form", FORMATS)
calmly = hypothesis_settings(deadline=None)


def exif(turn: int | None = None) -> Image.Exif:
    """Of a camera, at a place."""
    told = Image.Exif()
    told[0x010F] = "CAMERA-SECRET"
    told.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    if turn is not None:
        told[0x0112] = turn
    return told


def photograph(form: str, turn: int | None = None, mode: str = "RGB") -> bytes:
    """A photograph that tells where, when and with what it was taken."""
    with Image.open(PHOTOGRAPH) as picture:
        small = picture.convert("RGB").resize((97, 61)).convert(mode)
    options: dict[str, Any] = {"exif": exif(turn), "icc_profile": PROFILE}
    if form == "png":
        info = PngInfo()
        info.add_text("Comment", "TEXT-SECRET")
        info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=False)
        options |= {"pnginfo": info, "dpi": (300, 300)}
    else:
        options |= {"xmp": XMP, "quality": 90}
    if form == "jpg":
        options |= {"comment": "TEXT-SECRET", "dpi": (300, 300), "progressive": True}
    out = BytesIO()
    small.save(out, FORMATS[form], **options)
    return out.getvalue()


def pixels(data: bytes) -> Any:
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGBA"))


def info(data: bytes) -> dict[str, Any]:
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        return dict(picture.info)


@each_format
def test_a_photograph_loses_what_it_tells_and_no_pixel(form: str) -> None:
    data = photograph(form)
    assert all(word in data for word in TELLTALES[:2]), "it tells nothing: this proves nothing"

    bare = strip(data + (b"AFTER-SECRET" if form != "webp" else b""), form)

    assert not [word for word in TELLTALES if word in bare]
    with Image.open(BytesIO(bare)) as picture:
        assert dict(picture.getexif()) == {}
        assert not picture.getexif().get_ifd(GPS)
        assert picture.info["icc_profile"] == PROFILE
    assert np.array_equal(pixels(bare), pixels(data))
    assert isinstance(inspect_result(bare), Shape)
    assert set(info(bare)) <= {
        "icc_profile", "dpi", "jfif", "jfif_version", "jfif_density", "jfif_unit",
        "progressive", "progression", "loop", "background", "timestamp", "duration",
    }  # fmt: skip


@each_format
def test_what_is_bare_already_stays_byte_for_byte(form: str) -> None:
    bare = strip(photograph(form), form)

    assert strip(bare, form) == bare


@each_format
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_picture_that_lies_on_its_side_still_does(form: str, turn: int) -> None:
    bare = strip(photograph(form, turn), form)

    with Image.open(BytesIO(bare)) as picture:
        told = picture.getexif()
    assert dict(told) == ({} if turn == 1 else {0x0112: turn})
    assert b"CAMERA-SECRET" not in bare
    assert strip(bare, form) == bare


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_every_kind_of_png_keeps_its_pixels(mode: str) -> None:
    with Image.open(PHOTOGRAPH) as picture:
        grey = picture.resize((33, 20)).convert("L")
    made = grey.convert("I;16") if mode == "I;16" else grey.convert("RGB").convert(mode)
    info_of = PngInfo()
    info_of.add_text("where", "TEXT-SECRET", zip=True)
    out = BytesIO()
    options = {"transparency": 0} if mode in ("L", "P") else {}
    made.save(out, "PNG", pnginfo=info_of, **options)

    bare = strip(out.getvalue(), "png")

    assert b"where" not in bare
    with Image.open(BytesIO(bare)) as one, Image.open(BytesIO(out.getvalue())) as other:
        assert one.mode == other.mode
        assert one.tobytes() == other.tobytes()
        assert one.info.get("transparency") == other.info.get("transparency")


def test_an_animation_keeps_its_frames() -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "green", "blue")]
    for form in ("png", "webp"):
        out = BytesIO()
        frames[0].save(out, FORMATS[form], save_all=True, append_images=frames[1:], duration=40,
                       exif=exif())  # fmt: skip
        bare = strip(out.getvalue(), form)
        with Image.open(BytesIO(bare)) as one, Image.open(BytesIO(out.getvalue())) as other:
            pairs = zip(ImageSequence.Iterator(one), ImageSequence.Iterator(other), strict=True)
            assert [a.tobytes() == b.tobytes() for a, b in pairs] == [True] * 3
        assert b"CAMERA-SECRET" not in bare


def test_a_frame_of_an_animation_hides_nothing_either() -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "green")]
    out = BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=40)
    plain, hidden = out.getvalue(), b"EXIF" + struct.pack("<I", 13) + b"FRAME-SECRET!\0"
    at = plain.index(b"ANMF")
    size = int.from_bytes(plain[at + 4 : at + 8], "little")
    end = at + 8 + size
    longer = b"ANMF" + struct.pack("<I", size + len(hidden)) + plain[at + 8 : end] + hidden
    data = b"RIFF" + struct.pack("<I", len(plain) - 8 + len(hidden)) + plain[8:at] + longer
    data += plain[end:]

    assert strip(plain, "webp") == plain
    assert strip(data, "webp") == plain


def test_a_jpg_loses_its_thumbnails_and_the_pictures_after_it() -> None:
    data = photograph("jpg")
    thumb = b"\xff\xe0" + struct.pack(">H", 2 + 14 + 3) + b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01abc"
    rest = data[2:]
    jfif_end = 2 + int.from_bytes(rest[2:4], "big")
    data = b"\xff\xd8" + thumb + rest[jfif_end:] + photograph("jpg")

    bare = strip(data, "jpg")

    assert b"abc" not in bare[:40]
    assert bare.count(b"\xff\xd8\xff") == 1
    assert np.array_equal(pixels(bare), pixels(data))


def test_a_jpg_loses_what_stands_between_its_segments() -> None:
    data = photograph("jpg")
    first = 4 + int.from_bytes(data[4:6], "big")
    between = data[:first] + b"\0BETWEEN-SECRET" + data[first:]

    assert strip(between, "jpg") == strip(data, "jpg")
    assert isinstance(inspect_result(strip(between.replace(b"JFIF", b"JXIF"), "jpg")), Shape)


def test_a_cmyk_jpg_keeps_how_its_colours_are_meant() -> None:
    out = BytesIO()
    Image.new("CMYK", (8, 8), (10, 200, 30, 40)).save(out, "JPEG", exif=exif())

    bare = strip(out.getvalue(), "jpg")

    assert b"Adobe" in bare
    assert np.array_equal(pixels(bare), pixels(out.getvalue()))


def test_what_comes_after_the_pixels_of_a_png_is_read_and_left_out() -> None:
    plain = strip(photograph("png"), "png")
    late = exif(6).tobytes().removeprefix(b"Exif\0\0")
    said = b"eXIf" + late
    chunk = struct.pack(">I", len(late)) + said + struct.pack(">I", zlib.crc32(said))
    end = plain.rindex(b"IEND") - 4

    bare = strip(plain[:end] + chunk + plain[end:] + b"AFTER-SECRET", "png")

    with Image.open(BytesIO(bare)) as picture:
        picture.load()
        assert dict(picture.getexif()) == {0x0112: 6}
    assert b"SECRET" not in bare


def test_the_pieces_of_a_file_are_described_as_they_are_given_out() -> None:
    stripped = Stripped(photograph("jpg"), "jpg")

    bare = b"".join(stripped)

    assert (stripped.size, stripped.sha256) == (len(bare), sha256(bare).hexdigest())
    assert bare == strip(photograph("jpg"), "jpg")


@calmly
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 6000), st.integers(0, 255))
def test_a_damaged_file_is_never_made_longer_and_raises_nothing(
    form: str, at: int, byte: int
) -> None:
    data = bytearray(SAMPLES[form])
    data[at % len(data)] = byte

    bare = strip(bytes(data), form)

    assert len(bare) <= len(data) + 64
    assert len(strip(bytes(data[: at % len(data)]), form)) <= len(data) + 64


@calmly
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300))
@example("jpg", b"\xff" * 300)
@example("png", b"\0\0\0\x01eXIf")
@example("webp", b"VP8X\x0a\0\0\0")
def test_whatever_follows_a_signature_raises_nothing(form: str, rest: bytes) -> None:
    head = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff", "webp": b"RIFF\xff\0\0\0WEBP"}

    assert isinstance(strip(head[form] + rest, form), bytes)
    assert 1 <= orientation(rest) <= 8
    assert 1 <= orientation(b"II*\0" + rest) <= 8


def test_what_is_no_picture_stays_as_it_is() -> None:
    assert strip(b"GIF89a", "gif") == b"GIF89a"
    assert strip(b"", "png") == b""


def test_long_rows_of_fill_bytes_cost_no_time() -> None:
    data = b"\xff\xd8" + b"\xff" * 4_000_000 + b"\0"

    assert strip(data, "jpg") == data


SAMPLES = {form: photograph(form, 6) for form in FORMATS}
