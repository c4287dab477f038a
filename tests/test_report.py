"""What is taken for a task's state, whoever says it and however it is written."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutwork.report import Report, Retry, Verdict, failure

IMAGE = "https://results.example/out-image.png?Signature=topsecret"
MASK = "https://results.example/out-mask.png?Signature=topsecret"
TASK = "3b950563-e53f-4036-a581-5ac04d0829b3"

DOCUMENTED = {
    "completed_at": 1742670627,
    "download_time": 488,
    "err_info": "",
    "foreground_rect": {"x": 133, "y": 110, "width": 604, "height": 952},
    "image": IMAGE,
    "image_height": 1152,
    "image_width": 864,
    "output_type": 2,
    "progress": 100,
    "state": 1,
    "state_detail": "Complete",
    "task_id": TASK,
    "time_elapsed": 384.54998779296875,
    "type": "auto",
}

texts = st.text('ab17-.=?&%#:/{}[]," \\\n\x00\ud800\u200bé', max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(IMAGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
field_names = st.sampled_from([*DOCUMENTED, "status", "data", "mask", "data[state]", "data[x]"])


def must(payload: object, *wanted: str) -> Report:
    report = Report.read(payload, wanted=wanted)
    assert report is not None
    return report


def test_the_documented_reply_is_done() -> None:
    assert must({"status": 200, "data": DOCUMENTED}, "image") == Report(
        verdict=Verdict.DONE,
        state=1,
        task_id=TASK,
        image=IMAGE,
        foreground_rect={"x": 133, "y": 110, "width": 604, "height": 952},
        image_width=864,
        image_height=1152,
        progress=100.0,
        detail="Complete",
    )


@pytest.mark.parametrize(
    "payload",
    [
        DOCUMENTED,
        {"status": 200, **DOCUMENTED},
        {"status": "200", "data": DOCUMENTED},
        {"status": 200.0, "message": "success", "data": DOCUMENTED},
        {"status": None, "data": DOCUMENTED},
        {"status": "200", "data": json.dumps(DOCUMENTED)},
        {**DOCUMENTED, "foreground_rect": json.dumps(DOCUMENTED["foreground_rect"])},
        {name: str(value) for name, value in DOCUMENTED.items() if name != "foreground_rect"}
        | {"foreground_rect": json.dumps(DOCUMENTED["foreground_rect"])},
    ],
    ids=["bare", "bare-status", "texts", "floats", "null-status", "json-field", "rect", "form"],
)
def test_wrapping_and_spelling_do_not_matter(payload: object) -> None:
    assert must(payload) == must({"status": 200, "data": DOCUMENTED})


def test_nested_names_of_a_php_form_are_understood() -> None:
    report = must(
        {"status": "200", "data[task_id]": TASK, "data[state]": "1", "data[image]": IMAGE}
    )

    assert (report.verdict, report.task_id, report.image) == (Verdict.DONE, TASK, IMAGE)


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6, 99, "4", 4.0])
def test_zero_and_every_state_above_one_is_pending(state: object) -> None:
    assert must({"state": state, "image": IMAGE}).verdict is Verdict.PENDING


@pytest.mark.parametrize("state", [-1, -2, -3, -5, -7, -8, -17, -1000, "-7", -7.0, "-7.0"])
def test_every_state_below_zero_is_failed(state: object) -> None:
    assert (
        must({"status": 200, "data": {"state": state, "task_id": TASK}}).verdict is Verdict.FAILED
    )


def test_a_task_id_alone_is_pending() -> None:
    report = must({"status": 200, "message": "success", "data": {"task_id": TASK}})

    assert report == Report(Verdict.PENDING, task_id=TASK)


@pytest.mark.parametrize("status", [500, "500", 0, "ok", True, [200], {"code": 200}, math.nan])
def test_nothing_is_done_under_another_status_than_200(status: object) -> None:
    assert must({"status": status, "data": DOCUMENTED}).verdict is Verdict.PENDING


@pytest.mark.parametrize(
    ("files", "wanted", "verdict"),
    [
        ({"image": IMAGE}, ["image"], Verdict.DONE),
        ({"image": IMAGE, "mask": MASK}, ["image", "mask"], Verdict.DONE),
        ({"mask": MASK}, ["mask"], Verdict.DONE),
        ({"mask": MASK}, [], Verdict.DONE),
        ({"image": IMAGE}, ["image", "mask"], Verdict.PENDING),
        ({"mask": MASK}, ["image"], Verdict.PENDING),
        ({}, [], Verdict.PENDING),
        ({"image": "", "mask": None}, ["image"], Verdict.PENDING),
    ],
)
def test_done_means_that_what_was_asked_for_is_there(
    files: dict[str, str], wanted: list[str], verdict: Verdict
) -> None:
    report = must({"state": 1, "task_id": TASK, **files}, *wanted)

    assert report.verdict is verdict
    assert report.has(wanted) is (verdict is Verdict.DONE)
    assert report.incomplete is (verdict is Verdict.PENDING)


def test_a_task_id_may_be_a_number() -> None:
    assert must({"task_id": 12345678901234567890}).task_id == "12345678901234567890"


def test_an_echo_of_the_source_is_not_a_result() -> None:
    source = "https://shop.example/shoe.jpg"
    report = must({"state": 1, "task_id": TASK, "image_url": source, "url": source, "file": source})

    assert (report.image, report.mask, report.verdict) == (None, None, Verdict.PENDING)


@pytest.mark.parametrize(
    "link",
    ["", "  ", "null", "ftp://x/y", "/local", "javascript:alert(1)", "https://a b", "file:///"],
)
def test_what_is_no_web_address_is_no_link(link: str) -> None:
    assert must({"state": 1, "task_id": TASK, "image": link}).image is None


@pytest.mark.parametrize(
    "payload",
    [
        None, [], "text", 7, {}, {"status": 400, "message": "bad"}, {"data": None}, {"data": []},
        {"code": "invalid", "message": "no", "data": None}, {"error": {"message": "no"}},
        {"state": True}, {"state": "one"}, {"state": 1.5}, {"state": math.nan}, {"state": math.inf},
        {"state": 10**30}, {"state": [1]}, {"state": {}}, {"state": "٣"}, {"state": "1" * 5000},
        {"task_id": ["x"]}, {"task_id": True}, {"task_id": "a b"}, {"task_id": "a\nb"},
        {"task_id": "é"}, {"task_id": "x" * 201}, {"state": 1, "image": 7}, {"mask": []},
    ],
)  # fmt: skip
def test_what_is_not_recognisably_about_a_task_is_nothing(payload: object) -> None:
    assert Report.read(payload) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("progress", "21 %"), ("progress", math.nan), ("progress", 1e300), ("progress", []),
        ("image_width", "wide"), ("image_width", True), ("image_height", 10**40),
        ("foreground_rect", []), ("foreground_rect", "{"), ("foreground_rect", {"x": 1}),
        ("foreground_rect", {"x": 1, "y": 2, "width": math.nan, "height": 4}),
    ],
)  # fmt: skip
def test_malformed_information_is_dropped_and_the_result_kept(name: str, value: object) -> None:
    report = must({**DOCUMENTED, name: value})

    assert report.verdict is Verdict.DONE
    assert getattr(report, name) is None


def test_the_detail_tells_both_fields_once() -> None:
    assert must({"state": -1, "state_detail": "failed", "err_info": "too dark"}).detail == (
        "failed; too dark"
    )
    assert must({"state": -1, "state_detail": "failed", "err_info": "failed"}).detail == "failed"
    assert must({"state": -1, "state_detail": None, "err_info": {"a": 1}}).detail == ""


def test_repr_hides_the_links() -> None:
    report = must({"state": 1, "image": IMAGE, "mask": MASK})

    assert "topsecret" not in repr(report)
    assert "topsecret" not in f"{report}"


def test_a_report_survives_json() -> None:
    report = must({"status": 200, "data": DOCUMENTED | {"mask": MASK}})

    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


@settings(deadline=None)
@given(st.dictionaries(field_names, json_values))
def test_no_payload_breaks_the_reader_and_every_report_survives_json(
    payload: dict[str, object],
) -> None:
    report = Report.read(payload)

    if report is not None:
        stored = json.dumps(report.to_json(), allow_nan=False)
        stored.encode()
        assert Report.from_json(json.loads(stored)) == report


@pytest.mark.parametrize(
    ("retry", "states"),
    [
        (Retry.BOUNDED, [-1, -2, -8, -9, -13]),
        (Retry.ONCE, [-3]),
        (Retry.LATER, [-15]),
        (Retry.NEVER, [-4, -5, -6, -7, -10, -11, -14, -16, -17, -12, -18, -4242]),
    ],
)
def test_each_failure_knows_whether_another_try_is_worth_its_price(
    retry: Retry, states: list[int]
) -> None:
    assert {failure(state).retry for state in states} == {retry}


@pytest.mark.parametrize("state", [-7, -4242])
def test_a_failure_keeps_the_number(state: int) -> None:
    assert failure(state).code == f"provider_{state}"
    assert f"(state {state})" in failure(state).sentence
