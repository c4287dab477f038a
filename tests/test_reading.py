"""What is made of a stranger's words: one meaning or none, and no line that does harm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutwork.reading import parse, plain, whole

texts = st.text('ab17-.=?&%#:/{}[]," \\\n\x00\ud800\u200bé', max_size=30)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 2}}', '{"a": NaN}', '{"a": -Infinity}',
        '{"a": 1e999}', '{"a": ' + "9" * 21 + "}", '{"a": ' + "9" * 100_000 + "}", "[" * 100_000,
        '{"a":' * 100_000, "", "{", "<html>", b"\xff\xfe", b'{"a": "\xff"}', '{"a": 1} x',
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_ambiguous_or_broken_json_is_refused(text: str | bytes) -> None:
    assert parse(text) is None


def test_json_may_begin_with_a_byte_order_mark() -> None:
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@settings(deadline=None)
@given(texts | st.binary(max_size=50))
def test_no_text_breaks_the_json_reader(text: str | bytes) -> None:
    parse(text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7), (7.0, 7), ("7", 7), (" -7 ", -7), ("7.0", 7), ("+1", 1), (2**31 - 1, 2**31 - 1),
        (2**31, None), (7.5, None), (True, None), ("", None), ("7e1", None), (None, None),
        ("\x1c7", 7),
    ],
)  # fmt: skip
def test_a_whole_number_may_be_written_in_several_ways(value: object, number: int | None) -> None:
    assert whole(value) == number


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  two\r\n\tlines\x00 ", "two lines"),
        ("zero\u200bwidth \u202eback", "zerowidth back"),
        ("see https://h.example/p.png?Signature=abc&x=1 now", "see https://h.example/p.png now"),
        ("see https://h.example/p.png#key now", "see https://h.example/p.png now"),
        ("https://user:password@h.example/p", "https://h.example/p"),
        (r"https:\/\/h.example\/p?sig=abc", r"https:\/\/h.example\/p"),
        ("https%3A%2F%2Fh.example%2Fp%3Fsig%3Dabc", "https%3A%2F%2Fh.example%2Fp"),
        ("h.example/p?sig=abc", "h.example/p"),
        ("what? nothing", "what? nothing"),
        ("token " + "aB3_" * 15, "token …"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("", ""),
    ],
)
def test_a_strangers_text_becomes_one_harmless_line(text: str, line: str) -> None:
    assert plain(text) == line


def test_a_long_text_is_cut_to_300_characters() -> None:
    line = plain("word " * 1000)

    assert len(line) == 300
    assert line.endswith("…")


@pytest.mark.parametrize(
    "text",
    [
        "key sk-Secret!",
        "SK-SECRET!",
        "sk-\nSec ret!",
        "sk-\u200bSecret!",
        "no! " * 73 + "sk-Secret!",
        r"sk-\Secret\!",
    ],
)
def test_hidden_texts_are_found_in_any_disguise(text: str) -> None:
    line = plain(text, hide=["sk-Secret!"])

    assert "ecret" not in line.lower().replace(" ", "")


@settings(deadline=None)
@given(texts, texts.filter(bool), texts)
def test_no_line_contains_what_it_is_to_hide(before: str, secret: str, after: str) -> None:
    line = plain(before + secret + after, hide=[secret])

    assert secret == "…" or secret not in line
    assert len(line) <= 300
    assert line.isprintable()
