"""Fuzzes one parser: ``python -m tests.fuzz NAME --seconds 180``. Needs the group ``fuzz``.

What was found worth keeping stands in ``build/fuzz/NAME`` and is where the next run begins; an
input that breaks a property is written beside it, and the run ends.
"""

import sys
from pathlib import Path

import atheris
import click

# Only what is imported in here reports its coverage.
with atheris.instrument_imports(include=["cutwork"]):
    from tests.fuzz.targets import TARGETS

_FOLDER = Path("build/fuzz")


@click.command()
@click.argument("name", type=click.Choice(sorted(TARGETS)))
@click.option("--seconds", default=60, show_default=True)
def main(name: str, seconds: int) -> None:
    """Feed NAME's parser until the time is over or one of its properties breaks."""
    target, corpus = TARGETS[name], _FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={_FOLDER / name}-",
        "-max_len=8192",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-malloc_limit_mb=512",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
