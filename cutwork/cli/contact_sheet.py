"""The contact sheet: each photograph before and after, the cut-out on a chequerboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_CELL, _GAP, _MARGIN = 440, 20, 48  # px
_TITLE, _TEXT, _RADIUS, _SQUARE = 34, 19, 14, 16
_PAPER, _INK, _PALE = (247, 246, 243), (32, 33, 36), (120, 119, 115)
_LIGHT, _DARK = (255, 255, 255), (226, 226, 224)


@dataclass(frozen=True)
class Pair:
    """A photograph and its cut-out, as files' bytes, with what is written below each."""

    before: bytes
    after: bytes
    captions: tuple[str, str]


def draw(pairs: Sequence[Pair], title: str, subtitle: str, path: Path) -> None:
    """Write the sheet as a PNG."""
    rows = [(_fitted(pair.before), _on_chequers(_fitted(pair.after)), pair) for pair in pairs]
    head = _MARGIN + _TITLE + _TEXT + 44
    height = head + sum(_row_height(before) for before, _, _ in rows) + _MARGIN - 20
    sheet = Image.new("RGB", (2 * _MARGIN + 2 * _CELL + _GAP, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(_TITLE))
    small = ImageFont.load_default(_TEXT)
    pen.text((_MARGIN, _MARGIN + _TITLE + 14), subtitle, _PALE, small)
    top = head
    for before, after, pair in rows:
        for left, picture, caption in (
            (_MARGIN, before, pair.captions[0]),
            (_MARGIN + _CELL + _GAP, after, pair.captions[1]),
        ):
            sheet.paste(picture.convert("RGB"), (left, top), _rounded(picture.size))
            pen.text((left + 2, top + picture.height + 10), caption, _PALE, small)
        top += _row_height(before)
    sheet.save(path, optimize=True)


def _fitted(data: bytes) -> Image.Image:
    """As wide as a cell."""
    with Image.open(BytesIO(data)) as picture:
        whole = picture.convert("RGBA")
    size = (_CELL, max(1, round(whole.height * _CELL / whole.width)))
    # Premultiplied, so that the colour of what is transparent does not bleed into the edges.
    return whole.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _on_chequers(picture: Image.Image) -> Image.Image:
    board = Image.new("RGBA", picture.size, _LIGHT)
    pen = ImageDraw.Draw(board)
    for row in range(0, picture.height, _SQUARE):
        for column in range(row // _SQUARE % 2 * _SQUARE, picture.width, 2 * _SQUARE):
            pen.rectangle((column, row, column + _SQUARE - 1, row + _SQUARE - 1), _DARK)
    return Image.alpha_composite(board, picture)


def _rounded(size: tuple[int, int]) -> Image.Image:
    """A mask with round, smooth corners."""
    large = Image.new("L", (size[0] * 4, size[1] * 4))
    corner = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(corner, _RADIUS * 4, 255)
    return large.resize(size, Image.Resampling.LANCZOS)


def _row_height(picture: Image.Image) -> int:
    return picture.height + _TEXT + 36
