"""What benchmarks measured is kept for each work, so that one can be measured anew."""

from pathlib import Path

from bench import keeping


def work(name: str, commit: str) -> keeping.Kept:
    return {"work": name, "commit": commit}


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "results" / "quick.json"
    assert keeping.read(path) == []
    keeping.write(path, [work("callbacks", "1"), work("growth", "1")])
    assert keeping.read(path) == [work("callbacks", "1"), work("growth", "1")]


def test_a_work_that_is_measured_anew_stays_in_its_place() -> None:
    old = [work("callbacks", "1"), work("growth", "1")]
    new = [work("memory", "2"), work("callbacks", "2")]
    assert keeping.renew(old, new) == [
        work("callbacks", "2"),
        work("growth", "1"),
        work("memory", "2"),
    ]
