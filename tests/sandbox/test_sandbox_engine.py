"""The engine that comes along, on made pictures with known masks and on real photographs."""

import time
from importlib import resources
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cutwork.sandbox.grabcut import GrabCutEngine
from cutwork.sandbox.pictures import open_picture

Pixels = NDArray[np.uint8]
SHAPES = ("ellipse", "polygon", "blob", "bottle")


def photograph(name: str) -> Pixels:
    folder = resources.files("cutwork.cli.photographs")
    pixels: Pixels = open_picture(folder.joinpath(name).read_bytes())
    return pixels


def ramp(rng: np.random.Generator, shape: tuple[int, int], colour: Any) -> NDArray[np.float64]:
    """A gradient in a random direction between two neighbouring colours."""
    rows, columns = np.ogrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    share = (rows * rng.uniform() + columns * rng.uniform())[..., None] / 2
    return colour + share * rng.uniform(-60, 60, 3)


def noise(rng: np.random.Generator, shape: tuple[int, int], grain: int) -> NDArray[np.float64]:
    coarse = rng.normal(size=(shape[0] // grain + 1, shape[1] // grain + 1, 3))
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def outline(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> Pixels:
    mask = np.zeros(shape, np.uint8)
    x, y = shape[1] * rng.uniform(0.42, 0.58), shape[0] * rng.uniform(0.42, 0.58)
    size = min(shape) * rng.uniform(0.22, 0.34)
    if kind == "ellipse":
        axes = int(size * rng.uniform(0.7, 1.2)), int(size)
        cv2.ellipse(mask, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 255, -1)
    elif kind == "bottle":
        half = size / 2
        shoulder = int(x - half), int(y - 0.4 * size)
        cv2.rectangle(mask, shoulder, (int(x + half), int(y + size)), 255, -1)
        neck = int(x - 0.18 * size), int(y - 1.1 * size)
        cv2.rectangle(mask, neck, (int(x + 0.18 * size), int(y)), 255, -1)
    else:
        corners = 6 if kind == "polygon" else 120
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        reach = 1 + 0.15 * np.cos(2 * angles + rng.uniform(0, 6)) + 0.1 * np.cos(3 * angles)
        points = np.stack([x + size * reach * np.cos(angles), y + size * reach * np.sin(angles)], 1)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    return mask


def composite(seed: int) -> tuple[Pixels, Pixels]:
    """A textured, sometimes striped shape on a noisy gradient, and its mask."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(200, 400)), int(rng.integers(200, 400))
    ground = rng.uniform(20, 235, 3)
    colour = (ground + rng.choice([-1, 1], 3) * rng.uniform(60, 120, 3)) % 255
    while np.abs(colour - ground).sum() < 150:
        colour = rng.uniform(10, 245, 3)
    behind = ramp(rng, shape, ground) + noise(rng, shape, int(rng.choice([1, 4, 16]))) * 7
    thing = ramp(rng, shape, colour) + noise(rng, shape, int(rng.choice([2, 6, 20]))) * 14
    if seed % 3 == 0:
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        thing[np.sin((rows + seed * columns) / 7) > 0] += rng.uniform(-40, 40, 3)
    mask = outline(rng, shape, SHAPES[seed % 4])
    share = cv2.GaussianBlur(mask, (3, 3), 0)[..., None] / 255
    return np.clip(thing * share + behind * (1 - share), 0, 255).astype(np.uint8), mask


def overlap(one: Pixels, other: Pixels) -> float:
    first, second = one > 127, other > 127
    return float((first & second).sum() / (first | second).sum())


def test_known_shapes_are_found() -> None:
    engine = GrabCutEngine()
    scores = {}
    for seed in range(16):
        picture, mask = composite(seed)
        scores[seed] = overlap(engine.cut(picture, "object").alpha, mask)

    assert np.mean(list(scores.values())) >= 0.95, scores
    assert min(scores.values()) >= 0.85, scores


@pytest.mark.parametrize(
    ("name", "kind", "inside", "outside"),
    [
        (
            "astronaut.png",
            "person",
            [
                (225, 25),
                (165, 80),
                (290, 85),
                (225, 110),
                (60, 300),
                (30, 400),
                (300, 320),
                (320, 290),
            ],
            [
                (30, 150),
                (5, 490),
                (60, 130),
                (400, 200),
                (420, 40),
                (340, 100),
                (110, 60),
                (430, 300),
            ],
        ),
        (
            "coffee.png",
            "object",
            [
                (290, 40),
                (290, 150),
                (190, 100),
                (220, 270),
                (100, 200),
                (460, 230),
                (250, 370),
                (365, 290),
            ],
            [
                (30, 40),
                (40, 300),
                (550, 100),
                (520, 350),
                (120, 50),
                (460, 60),
                (100, 380),
            ],
        ),
        (
            "grace_hopper.jpg",
            "person",
            [
                (260, 40),
                (180, 100),
                (350, 110),
                (265, 200),
                (185, 260),
                (60, 420),
                (470, 430),
                (250, 590),
            ],
            [
                (70, 90),
                (10, 200),
                (110, 40),
                (150, 240),
                (450, 150),
                (420, 30),
                (90, 320),
                (3, 550),
            ],
        ),
    ],
)
def test_photographs_are_cut_whole(
    name: str, kind: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    cut = GrabCutEngine().cut(photograph(name), "")

    assert cut.kind == kind
    assert [(x, y) for x, y in inside if cut.alpha[y, x] < 250] == []
    assert [(x, y) for x, y in outside if cut.alpha[y, x] > 5] == []


def test_a_person_on_another_background_is_the_same_person() -> None:
    engine = GrabCutEngine()
    picture = photograph("astronaut.png")
    person = engine.cut(picture, "person").alpha
    rng = np.random.default_rng(1)
    behind = ramp(rng, (512, 512), np.array([190, 170, 90])) + noise(rng, (512, 512), 8) * 9
    share = person[..., None] / 255
    pasted = np.clip(picture * share + behind * (1 - share), 0, 255).astype(np.uint8)

    assert overlap(engine.cut(pasted, "").alpha, person) >= 0.97


def test_the_same_picture_gives_the_same_cut() -> None:
    picture, _ = composite(2)

    first, second = (GrabCutEngine().cut(picture, "").alpha for _ in range(2))

    assert (first == second).all()


def test_an_edge_is_soft_and_narrow() -> None:
    picture, mask = composite(1)
    alpha = GrabCutEngine().cut(picture, "object").alpha

    between = (alpha > 0) & (alpha < 255)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((13, 13), np.uint8)) > 0
    assert between.any()
    assert not (between & ~edge).any()


def test_a_red_seal_is_taken_and_the_print_is_left() -> None:
    paper = np.full((200, 300, 3), (235, 240, 245), np.uint8)
    cv2.putText(paper, "contract", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (30, 30, 30), 3)
    seal = np.zeros((200, 300), np.uint8)
    cv2.circle(seal, (200, 120), 50, 255, 7)
    paper[seal > 0] = (40, 30, 200)

    cut = GrabCutEngine().cut(paper, "stamp")

    assert cut.kind == "stamp"
    assert overlap(cut.alpha, seal) >= 0.9


def test_a_dark_seal_on_grey_paper_is_taken() -> None:
    paper = np.full((200, 200, 3), 190, np.uint8)
    seal = np.zeros((200, 200), np.uint8)
    cv2.circle(seal, (100, 100), 60, 255, 9)
    paper[seal > 0] = 25

    assert overlap(GrabCutEngine().cut(paper, "stamp").alpha, seal) >= 0.9


def test_white_paper_has_no_seal() -> None:
    assert not GrabCutEngine().cut(np.full((50, 50, 3), 250, np.uint8), "stamp").alpha.any()


@pytest.mark.parametrize("kind", ["", "person", "object", "stamp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 7), (33, 57)])
def test_any_shape_can_be_cut(kind: str, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(5).integers(0, 255, (*shape, 3)).astype(np.uint8)

    alpha = GrabCutEngine().cut(picture, kind).alpha

    assert (alpha.shape, alpha.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_nothing_stands_out_the_whole_picture_is_the_subject(level: int) -> None:
    alpha = GrabCutEngine().cut(np.full((60, 80, 3), level, np.uint8), "").alpha

    assert (alpha == 255).all()


def test_the_largest_picture_takes_seconds() -> None:
    picture = cv2.resize(photograph("coffee.png"), (4096, 2731))
    started = time.monotonic()

    alpha = GrabCutEngine().cut(np.asarray(picture, np.uint8), "object").alpha

    assert alpha.shape == (2731, 4096)
    assert time.monotonic() - started < 15
