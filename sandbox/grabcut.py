"""The engine that comes along: GrabCut with OpenCV, started from what stands out or from a face."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .edges import soft_alpha
from .engine import Cut
from .people import Box, find_face, lopsided, person_labels
from .pictures import Pixels
from .seals import seal_alpha
from .seeds import from_aside, salience

Labels = NDArray[np.uint8]

COARSE = 224
FINE = 512
BAND = 9
SLENDER = 0.16  # of a face's width: what sticks out of a person and is slimmer is not theirs


class GrabCutEngine:
    """Cuts people, objects and red seals with OpenCV alone; the same picture gives the same cut.

    The subject is found at 224 pixels and its outline refined at 512, whatever the picture's size.
    Where nothing stands out, the whole picture is the subject.
    """

    def cut(self, picture: Pixels, kind: str) -> Cut:
        """Cut ``picture`` (BGR); without a ``kind`` it is a person if there is a face."""
        cv2.setRNGSeed(1)  # OpenCV's generator is the thread's own
        if kind == "stamp":
            return Cut(seal_alpha(picture), "stamp")
        fine = _shrunk(picture, FINE)
        face = find_face(fine) if kind in ("", "person") else None
        coarse = _shrunk(fine, COARSE)
        if face is None:
            mask = cut_labels(coarse, thing_labels(coarse), 4)
        else:
            mask = _person_mask(coarse, face, coarse.shape[1] / fine.shape[1])
        mask = _refined(fine, tidy(mask)) if mask.any() else np.ones(fine.shape[:2], np.uint8)
        return Cut(soft_alpha(picture, mask), kind or ("object" if face is None else "person"))


def thing_labels(picture: Pixels) -> Labels:
    """GrabCut's labels for a picture of some thing: what stands out is probably it."""
    found = salience(picture)
    grey = (found * 255).astype(np.uint8)
    split, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    likely = tidy((grey > 0.6 * split).astype(np.uint8))
    sure = cv2.erode((likely & (grey > 1.2 * split)).astype(np.uint8), np.ones((3, 3), np.uint8))
    near = cv2.dilate(likely, _disc(max(picture.shape[:2]) // 12))
    labels = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[near == 0] = cv2.GC_BGD
    labels[sure == 1] = cv2.GC_FGD
    rim = np.ones(labels.shape, bool)
    rim[2:-2, 2:-2] = False
    labels[rim & (likely == 0)] = cv2.GC_BGD
    return labels


def _person_mask(picture: Pixels, face: Box, scale: float) -> Labels:
    """Cut, then teach the background what sticks out of the person, and cut again."""
    x, y, width, height = (round(side * scale) for side in face)
    box = x, y, width, height
    labels = person_labels(picture.shape[:2], box)
    sure = labels == cv2.GC_FGD
    labels[from_aside(picture, sure) & ~sure] = cv2.GC_BGD
    mask = tidy(cut_labels(picture, labels, 3))
    for _ in range(2):
        slender = mask & (1 - _opened(mask, max(1, round(SLENDER * width))))
        labels[(slender == 1) & (labels == cv2.GC_PR_BGD)] = cv2.GC_BGD
        labels[lopsided(mask, box) & (labels != cv2.GC_FGD)] = cv2.GC_BGD
        mask = tidy(cut_labels(picture, labels, 2))
    return mask


def _opened(mask: Labels, radius: int) -> Labels:
    """``mask`` without what is slimmer than a disc; the lower border counts as its inside."""
    padded = cv2.copyMakeBorder(mask, radius, 0, radius, radius, cv2.BORDER_CONSTANT, value=0)
    padded = cv2.copyMakeBorder(padded, 0, 2 * radius, 0, 0, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, _disc(2 * radius + 1))
    return opened[radius : radius + mask.shape[0], radius : radius + mask.shape[1]].astype(np.uint8)


def cut_labels(picture: Pixels, labels: Labels, rounds: int) -> Labels:
    """Run GrabCut on a copy of ``labels``; returns 1 for the subject and 0 for the rest."""
    work = labels.copy()
    if _subject(work).min() != _subject(work).max():
        models, mode = (np.zeros((1, 65)), np.zeros((1, 65))), cv2.GC_INIT_WITH_MASK
        cv2.grabCut(picture, work, (0, 0, 1, 1), *models, rounds, mode)
    return _subject(work)


def _subject(labels: Labels) -> Labels:
    """The labels GC_FGD and GC_PR_FGD are the odd ones."""
    return np.asarray(labels & 1, dtype=np.uint8)


def tidy(mask: Labels) -> Labels:
    """Keep the largest piece and those a tenth as large; close small holes."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = [number + 1 for number, area in enumerate(areas) if area >= areas.max() * 0.1]
    clean = np.isin(pieces, kept).astype(np.uint8)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(1 - clean, connectivity=4)
    for hole in range(1, count):
        if stats[hole, cv2.CC_STAT_AREA] < 0.02 * clean.sum():
            clean[holes == hole] = 1
    return clean


def _refined(picture: Pixels, mask: Labels) -> Labels:
    grown = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    inner, outer = cv2.erode(grown, _disc(BAND)), cv2.dilate(grown, _disc(BAND))
    labels = np.where(grown, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inner == 1] = cv2.GC_FGD
    labels[outer == 0] = cv2.GC_BGD
    return tidy(cut_labels(picture, labels, 1))


def _shrunk(picture: Pixels, side: int) -> Pixels:
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _disc(size: int) -> Labels:
    odd = 2 * (size // 2) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (odd, odd)), dtype=np.uint8)
