"""Results: what is in the files, and who may fetch them until when."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image


def image_of(link: str) -> Image.Image:
    reply = requests.get(link, timeout=5)
    assert reply.status_code == 200, reply.text
    return Image.open(BytesIO(reply.content))


def test_a_link_opens_without_a_key_and_as_often_as_one_likes(make_client: Any) -> None:
    client = make_client()
    link = client.link()

    replies = [requests.get(link, timeout=5) for _ in range(2)]

    assert {reply.headers["Content-Type"] for reply in replies} == {"image/png"}
    assert replies[0].content == replies[1].content
    [row] = client.sandbox.ledger()["tasks"]
    assert row["downloads"] == {f"{row['task_id']}-image.png": 2}


def test_a_head_has_the_length_and_no_body(make_client: Any) -> None:
    link = make_client().link()

    head = requests.head(link, timeout=5)

    assert int(head.headers["Content-Length"]) == len(requests.get(link, timeout=5).content)


@pytest.mark.parametrize(
    "forge",
    [
        lambda link: link[:-1] + ("0" if link[-1] != "0" else "1"),
        lambda link: link.replace("expires=", "expires=9"),
        lambda link: link.replace("-image", "-mask"),
        lambda link: link.split("?")[0],
        lambda link: link.split("?")[0] + "?expires=x&signature=é",
    ],
)
def test_a_forged_link_is_denied(make_client: Any, forge: Any) -> None:
    reply = requests.get(forge(make_client().link(output_type=1)), timeout=5)

    assert reply.status_code == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in reply.text


def test_a_link_dies_after_its_time(make_client: Any) -> None:
    reply = requests.get(make_client(result_ttl=0).link(), timeout=5)

    assert reply.status_code == 403
    assert reply.headers["Content-Type"] == "application/xml"
    assert "<Code>AccessDenied</Code>" in reply.text


def test_a_link_names_the_host_that_the_client_used(make_client: Any) -> None:
    client = make_client()
    client.sandbox.url = client.sandbox.url.replace("127.0.0.1", "localhost")

    assert client.link().startswith(client.sandbox.url)


@pytest.mark.parametrize(
    ("output_type", "image", "mask"), [(1, True, True), (2, True, False), (3, False, True)]
)
def test_the_output_type_chooses_the_files(
    make_client: Any, output_type: int, image: bool, mask: bool
) -> None:
    client = make_client()
    task_id = client.accept(output_type=output_type)
    client.finish(task_id)

    data = client.query(task_id).json()["data"]

    assert (bool(data["image"]), bool(data["mask"])) == (image, mask)


def test_a_png_is_transparent_and_keeps_the_subjects_pixels(make_client: Any) -> None:
    client = make_client()
    source = np.asarray(Image.open(BytesIO(client.png)))

    cut = np.asarray(image_of(client.link()))

    assert cut.shape == (30, 40, 4)
    assert (cut[7:23, 10:30, :3] == source[7:23, 10:30]).all()
    assert (cut[7:23, 10:30, 3] == 255).all()
    assert cut[..., 3].sum() == 255 * 16 * 20
    assert (cut[0, 0] == 0).all()


def test_a_mask_is_a_grey_png(make_client: Any) -> None:
    client = make_client()
    task_id = client.accept(output_type=3, format="jpg")
    client.finish(task_id)

    mask = image_of(client.query(task_id).json()["data"]["mask"])

    assert (mask.mode, mask.format, mask.size) == ("L", "PNG", (40, 30))


@pytest.mark.parametrize(
    ("bg_color", "expected"),
    [("", (255, 255, 255)), ("ff0000", (255, 0, 0)), ("#00F", (0, 0, 255))],
)
def test_a_jpg_has_a_background(make_client: Any, bg_color: str, expected: tuple[int, ...]) -> None:
    picture = image_of(make_client().link(format="jpg", bg_color=bg_color))

    assert picture.format == "JPEG"
    assert np.abs(np.asarray(picture, int)[0, 0] - expected).max() <= 3


def test_a_crop_leaves_the_rectangle_of_the_subject(make_client: Any) -> None:
    data = make_client().submit(sync=1, crop=1, output_type=1).json()["data"]

    assert image_of(data["image"]).size == image_of(data["mask"]).size == (20, 16)
    assert (data["image_width"], data["image_height"]) == (20, 16)
    assert data["foreground_rect"] == {"x": 10, "y": 7, "width": 20, "height": 16}


def test_every_file_says_whose_it_is(make_client: Any) -> None:
    client = make_client()
    client.accept()
    png = client.submit(sync=1, output_type=1).json()["data"]
    jpg = client.submit(sync=1, format="jpg").json()["data"]

    for link in (png["image"], png["mask"]):
        marks = image_of(link).info
        assert (marks["cutwork-task"], marks["cutwork-submit"]) == (png["task_id"], "1")
        assert marks["cutwork-source"] == client.row(png["task_id"])["source"]
    assert f"cutwork-task={jpg['task_id']}" in image_of(jpg["image"]).info["comment"].decode()


def test_the_marks_may_be_left_out(make_client: Any) -> None:
    assert "cutwork-task" not in image_of(make_client(stamp=False).link()).info
