"""Find a face, and say where a head and shoulders belong around it."""

from pathlib import Path
from threading import local

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import Pixels

Box = tuple[int, int, int, int]
Labels = NDArray[np.uint8]

CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
SMALLEST = 0.08
LEAN, SLACK = 1.15, 0.06  # a head is about as wide on both sides; slack in faces' widths

_thread = local()  # a cascade keeps buffers, so it must not be used by two threads


def find_face(picture: Pixels) -> Box | None:
    """The largest frontal face as (x, y, width, height), or None."""
    if not hasattr(_thread, "cascade"):
        _thread.cascade = cv2.CascadeClassifier(str(CASCADE))
    grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    smallest = max(20, round(SMALLEST * min(grey.shape)))
    faces = _thread.cascade.detectMultiScale(grey, 1.1, 4, minSize=(smallest, smallest))
    if len(faces) == 0:
        return None
    x, y, width, height = max(faces, key=lambda face: int(face[2]) * int(face[3]))
    return int(x), int(y), int(width), int(height)


def person_labels(shape: tuple[int, int], face: Box) -> Labels:
    """GrabCut's labels for a picture of ``shape`` (height, width) with a person around ``face``.

    The unit is the face's width. Surely subject: the face and a core of the trunk; surely not:
    whatever is far above the shoulders.
    """
    x, y, width, height = face
    middle, unit = x + width / 2, float(width)
    brow = y + 0.3 * height
    bottom = float(shape[0] + 1)
    labels = np.full(shape, cv2.GC_BGD, np.uint8)
    _fill(labels, _torso(middle, brow + 0.7 * unit, 2.3 * unit, unit, bottom), cv2.GC_PR_BGD)
    _oval(labels, middle, brow, 1.05 * unit, 1.3 * unit, cv2.GC_PR_BGD)
    _fill(labels, _torso(middle, brow + 1.0 * unit, 1.45 * unit, 0.6 * unit, bottom), cv2.GC_PR_FGD)
    _oval(labels, middle, brow, 0.62 * unit, 0.85 * unit, cv2.GC_PR_FGD)
    _fill(labels, _torso(middle, brow + 1.5 * unit, 0.7 * unit, 0.4 * unit, bottom), cv2.GC_FGD)
    _oval(labels, middle, y + 0.5 * height, 0.36 * unit, 0.48 * unit, cv2.GC_FGD)
    return labels


def lopsided(mask: Labels, face: Box) -> NDArray[np.bool_]:
    """Where a cut head reaches much farther to one side of a frontal face than to the other."""
    x, y, width, height = face
    chin = min(mask.shape[0], y + round(0.9 * height))
    columns = np.arange(mask.shape[1], dtype=np.float32) - (x + width / 2)
    head = np.where(mask[:chin] == 1, columns, 0)
    left, right = _reach(-head, width), _reach(head, width)
    slack = SLACK * width
    beyond = np.zeros(mask.shape, bool)
    beyond[:chin] = (columns > LEAN * left + slack) | (-columns > LEAN * right + slack)
    beyond &= mask == 1
    return beyond


def _reach(away: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """For each row, the farthest reach there and a little above and below; (rows, 1)."""
    rows = away.max(axis=1, initial=0).astype(np.float32)[:, None]
    tall = 2 * round(0.05 * width) + 1
    return np.asarray(cv2.dilate(rows, np.ones((tall, 1), np.uint8)), dtype=np.float32)


def _torso(middle: float, top: float, half: float, neck: float, bottom: float) -> NDArray[np.int32]:
    """A trunk: ``neck`` is half the width at ``top``, ``half`` the half below the shoulders."""
    drop = 0.55 * half
    right = [(neck, top), (0.8 * half, top + 0.4 * drop), (half, top + drop), (half * 1.1, bottom)]
    points = [(middle + away, down) for away, down in right]
    points += [(middle - away, down) for away, down in reversed(right)]
    return np.array(points).round().astype(np.int32)


def _fill(labels: Labels, points: NDArray[np.int32], label: int) -> None:
    cv2.fillPoly(labels, [points], label)


def _oval(
    labels: Labels, x: float, y: float, half_width: float, half_height: float, label: int
) -> None:
    centre, axes = (round(x), round(y)), (round(half_width), round(half_height))
    cv2.ellipse(labels, centre, axes, 0, 0, 360, label, -1)
