"""Where the subject is likely to be, before any cutting: what stands out, and how people stand."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .pictures import Pixels

Map = NDArray[np.float32]

COARSE = 72
CLUSTERS = 4
APART = 40  # of Lab's ranges added up: a plain edge
PLAIN = 10.0  # the same sum, for a picture with nothing on it


def salience(picture: Pixels) -> Map:
    """How much each pixel stands out from the picture's border, 0 to 1.

    Two measures are added: how hard a pixel is to reach from the border (the range of colours that
    the best path crosses: minimum barrier distance), and how unlike its colour is to the border's.
    """
    height, width = picture.shape[:2]
    lab = _small_lab(picture)
    border = np.ones(lab.shape[:2], bool)
    border[1:-1, 1:-1] = False
    found = _stretch(_barriers(lab, border), PLAIN) + _stretch(_unlike_border(lab), 1.0)
    found = _stretch(found * (0.5 + 0.5 * _centre(found.shape)), 0.2)
    return _map(cv2.resize(found, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1))


def from_aside(picture: Pixels, core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the picture hangs together with its left and right border, and not with ``core``."""
    height, width = picture.shape[:2]
    lab = _small_lab(picture)
    rows, columns = lab.shape[:2]
    inside = cv2.resize(core.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    if not inside.any():
        return np.zeros((height, width), bool)
    aside = np.zeros((rows, columns), bool)
    aside[:, [0, -1]] = True
    to_core, to_side = _barriers(lab, inside), _barriers(lab, aside & ~inside)
    apart = (to_core > APART) & (to_side < 0.35 * to_core)
    return cv2.resize(apart.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _small_lab(picture: Pixels) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    scale = COARSE / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(cv2.GaussianBlur(small, (3, 3), 0), cv2.COLOR_BGR2LAB)
    return np.asarray(lab, dtype=np.float32)


def _barriers(lab: NDArray[np.float32], start: NDArray[np.bool_]) -> Map:
    """The least range of colours that a path from ``start`` crosses; infinite without a start."""
    high, low = lab.copy(), lab.copy()
    cost = np.where(start, 0, np.inf).astype(np.float32)
    for _ in range(2 * COARSE):
        before = cost.copy()
        for here, there in _NEIGHBOURS:
            top, bottom = np.maximum(high[there], lab[here]), np.minimum(low[there], lab[here])
            step = (top - bottom).sum(axis=2, dtype=np.float32)
            step[np.isinf(cost[there])] = np.inf
            better = step < cost[here]
            cost[here][better] = step[better]
            high[here][better], low[here][better] = top[better], bottom[better]
        if np.array_equal(before, cost):
            break
    return cost


def _unlike_border(lab: NDArray[np.float32]) -> Map:
    edge = np.concatenate(
        [
            lab[:2].reshape(-1, 3),
            lab[-2:].reshape(-1, 3),
            lab[:, :2].reshape(-1, 3),
            lab[:, -2:].reshape(-1, 3),
        ]
    )
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, labels, centres = cv2.kmeans(edge, CLUSTERS, np.empty(0), stop, 2, cv2.KMEANS_PP_CENTERS)
    nearest = np.full(lab.shape[:2], np.inf, np.float32)
    for number, centre in enumerate(centres):
        members = edge[labels.ravel() == number]
        if len(members) < len(edge) * 0.04:
            continue
        spread = np.cov(members.T) + np.eye(3) * 20
        away = lab - centre
        distance = np.einsum("ijk,kl,ijl->ij", away, np.linalg.inv(spread), away)
        nearest = np.minimum(nearest, np.sqrt(distance)).astype(np.float32)
    return np.minimum(nearest, 12)


def _centre(shape: tuple[int, ...]) -> Map:
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return _map(np.exp(-(rows**2 + columns**2) / 0.9))


def _stretch(found: NDArray[np.float32], least: float) -> Map:
    """Up to 1 for what stands out most, unless even that is below ``least``: then it is noise."""
    top = float(np.percentile(found, 98))
    return _map((found / max(top, least)).clip(0, 1))


def _map(values: NDArray[np.floating]) -> Map:
    return values.astype(np.float32)


_ALL, _FORTH, _BACK = slice(None), slice(1, None), slice(None, -1)
_NEIGHBOURS = (
    ((_FORTH, _ALL), (_BACK, _ALL)),
    ((_BACK, _ALL), (_FORTH, _ALL)),
    ((_ALL, _FORTH), (_ALL, _BACK)),
    ((_ALL, _BACK), (_ALL, _FORTH)),
)
