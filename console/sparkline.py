"""A small chart as inline SVG: drawn here, coloured by the style sheet, told in words as well."""

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

WIDTH, HEIGHT, _RIM = 240.0, 44.0, 3.0

Value = float | None


def draw(values: Sequence[Value], title: str, top: float | None = None) -> Markup:
    """A line for each run of known values; ``top`` is the value at the upper rim.

    ``title`` is what a screen reader says instead of the picture.
    """
    known = [value for value in values if value is not None]
    highest = top or max(known, default=0.0) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    points = [
        None if value is None else (index * step, _height(min(value, highest) / highest))
        for index, value in enumerate(values)
    ]
    shapes = Markup("").join(_run(list(run)) for there, run in groupby(points, bool) if there)
    last = next((point for point in reversed(points) if point), None)
    dot = Markup("")
    if last:
        dot = Markup('<circle class="now" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(*last)
    return Markup(
        '<svg class="spark" viewBox="-4 0 {} {}" role="img" aria-label="{}"'
        ' preserveAspectRatio="none">{}{}</svg>'
    ).format(WIDTH + 8, HEIGHT, title, shapes, dot)


def _height(share: float) -> float:
    return HEIGHT - _RIM - share * (HEIGHT - 2 * _RIM)


def _run(run: "list[tuple[float, float] | None]") -> Markup:
    points = [point for point in run if point is not None]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = HEIGHT - _RIM
    area = f"{points[0][0]:.1f},{floor} {line} {points[-1][0]:.1f},{floor}"
    shape = Markup('<polygon class="area" points="{}"/><polyline class="line" points="{}"/>')
    return shape.format(area, line)
