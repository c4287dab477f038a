"""The Chinese README says what the English one says, as far as a program can see it."""

import re
from pathlib import Path

from tests.snippets import snippets

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
_HAN = re.compile(r"[\u4e00-\u9fff]")


def prose(page: Path) -> list[str]:
    """The lines that are neither code nor comment."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if line and not line.startswith(("    ", "<!--"))]


def shape(page: Path) -> list[str]:
    """The order of headings, items, pictures and paragraphs."""
    kinds = (re.match(r"(#+ |\* |!|)", line) for line in prose(page))
    return [kind[1] for kind in kinds if kind]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", "\n".join(prose(page)[2:]))


def code(page: Path) -> list[list[str]]:
    """The code spans of each line, in any order: word order differs."""
    return [sorted(re.findall(r"`([^`]+)`", line)) for line in prose(page)]


def test_each_readme_links_to_the_other_at_its_top() -> None:
    assert "](README.zh-CN.md)" in prose(ENGLISH)[1]
    assert "](README.md)" in prose(CHINESE)[1]


def test_both_have_the_same_headings_items_and_paragraphs() -> None:
    assert shape(CHINESE) == shape(ENGLISH)
    assert shape(ENGLISH).count("## ") >= 8


def test_both_have_the_same_code_and_the_same_reasons_not_to_run_it() -> None:
    told = [
        [(one.language, one.source, one.excuse) for one in snippets(page)]
        for page in (ENGLISH, CHINESE)
    ]

    assert told[1] == told[0]
    assert len(told[0]) >= 8


def test_both_link_to_the_same_places() -> None:
    assert links(CHINESE) == links(ENGLISH)
    assert len(links(ENGLISH)) >= 20


def test_both_name_the_same_commands_variables_and_functions() -> None:
    assert code(CHINESE) == code(ENGLISH)


def test_every_line_is_in_chinese_but_for_names() -> None:
    for line in prose(CHINESE)[2:]:
        assert _HAN.search(re.sub(r"`[^`]+`|\]\([^)]+\)", "", line)), line


def test_chinese_sentences_have_chinese_marks() -> None:
    for line in prose(CHINESE)[2:]:
        plain = re.sub(r"`[^`]+`|\]\([^)]+\)", "", line)
        assert not re.search(r"[\u4e00-\u9fff][,;:?!()]", plain), line
