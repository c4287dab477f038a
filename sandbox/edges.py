"""From a hard, small mask to a soft edge at the picture's own size."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import Pixels

Floats = NDArray[np.float32]


def soft_alpha(picture: Pixels, mask: NDArray[np.uint8], radius: int = 4) -> NDArray[np.uint8]:
    """Alpha (uint8, the picture's size) whose edge follows the picture; 0 and 255 away from it.

    ``mask`` is 0 or 1 and may be smaller than the picture: a guided filter is solved at its size
    and applied at the picture's, within a band of ``radius`` mask pixels around the mask's edge.
    """
    height, width = picture.shape[:2]
    small = cv2.resize(picture, mask.shape[::-1], interpolation=cv2.INTER_AREA)
    guide = np.asarray(small, dtype=np.float32) / np.float32(255)
    slope, offset = _fit(guide, mask.astype(np.float32), radius)
    alpha = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    for channel in range(3):
        grown = cv2.resize(slope[channel], (width, height), interpolation=cv2.INTER_LINEAR)
        alpha += grown * (picture[:, :, channel] * np.float32(1 / 255))
    sharp = ((alpha - 0.5) * 1.5 + 0.5).clip(0, 1)
    inner, outer = _band(mask, radius, (width, height))
    sharp[inner > 127] = 1
    sharp[outer < 128] = 0
    return np.asarray((sharp * 255).round(), dtype=np.uint8)


def _fit(guide: Floats, mask: Floats, radius: int) -> tuple[list[Floats], Floats]:
    """Coefficients of alpha = slope · colour + offset around each pixel (colour guided filter)."""
    mean_mask = _mean(mask, radius)
    mean = [_mean(guide[:, :, c], radius) for c in range(3)]
    covariance = np.empty((*mask.shape, 3, 3), np.float32)
    with_mask = np.empty((*mask.shape, 3), np.float32)
    for i in range(3):
        with_mask[:, :, i] = _mean(guide[:, :, i] * mask, radius) - mean[i] * mean_mask
        for j in range(i, 3):
            product = _mean(guide[:, :, i] * guide[:, :, j], radius) - mean[i] * mean[j]
            covariance[:, :, i, j] = covariance[:, :, j, i] = product
    covariance += np.eye(3, dtype=np.float32) * 1e-4
    slope = np.linalg.solve(covariance, with_mask[..., None])[..., 0].astype(np.float32)
    offset = mean_mask - sum(slope[:, :, c] * mean[c] for c in range(3))
    return [_mean(slope[:, :, c], radius) for c in range(3)], _mean(offset, radius)


def _band(
    mask: NDArray[np.uint8], radius: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius - 1, 2 * radius - 1))
    inner, outer = cv2.erode(mask, kernel), cv2.dilate(mask, kernel)
    grown = [cv2.resize(m * 255, size, interpolation=cv2.INTER_LINEAR) for m in (inner, outer)]
    return grown[0].astype(np.uint8), grown[1].astype(np.uint8)


def _mean(values: Floats, radius: int) -> Floats:
    size = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.blur(values, size, borderType=cv2.BORDER_REFLECT), dtype=np.float32)
