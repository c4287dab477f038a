"""Extract a red or dark ink seal from paper by its colour."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import Pixels

FAINT, FULL = 0.25, 0.75  # of the ink's own strength: clear below, opaque above
WEAKEST = 24  # of 255: below, there is no ink but paper


def seal_alpha(picture: Pixels) -> NDArray[np.uint8]:
    """Alpha of the ink; red ink wins over dark print, and without red the dark is the ink."""
    levels = cv2.GaussianBlur(picture, (3, 3), 0).astype(np.int16)
    blue, green, red = levels[:, :, 0], levels[:, :, 1], levels[:, :, 2]
    redness = (red - np.maximum(blue, green)).clip(0, 255)
    strength = redness
    if _top(redness) < 2 * WEAKEST:
        darkness = 255 - levels.max(axis=2)
        paper = np.percentile(darkness, 50)
        strength = (darkness - paper).clip(0, 255)
    top = _top(strength)
    if top < WEAKEST:
        return np.zeros(picture.shape[:2], np.uint8)
    share = (strength / top - FAINT) / (FULL - FAINT)
    return np.asarray((share.clip(0, 1) * 255).round(), dtype=np.uint8)


def _top(strength: NDArray[np.int16]) -> float:
    """The strength of solid ink: the upper end, without its noise."""
    inked = strength[strength >= WEAKEST]
    return float(np.percentile(inked, 90)) if inked.size > 0.0005 * strength.size else 0.0
