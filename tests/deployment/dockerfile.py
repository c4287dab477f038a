"""A Dockerfile as data: its stages, each a list of instructions; arguments are filled in."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """``RUN --mount=… words``: the keyword in capitals, its flags, and what follows them."""

    keyword: str
    flags: tuple[str, ...]
    rest: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.rest)


@dataclass
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [one for one in self.instructions if one.keyword == keyword]

    def last(self, keyword: str) -> Instruction:
        return self.all(keyword)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """NAME → value of every ENV; references to other variables stay."""
        pairs = [word for one in self.all("ENV") for word in one.words]
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def read(path: Path, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages; ``${NAME}`` of an ARG is its default, or what ``arguments`` says."""
    known: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _logical_lines(path.read_text(encoding="utf-8").splitlines()):
        keyword, _, rest = line.partition(" ")
        found = _instruction(keyword.upper(), _filled(rest.strip(), known))
        if found.keyword == "ARG":
            name, _, default = found.rest.partition("=")
            known[name] = (arguments or {}).get(name, default)
        elif found.keyword == "FROM":
            base, *named = found.words
            stages.append(Stage(base, named[1] if named else ""))
        else:
            stages[-1].instructions.append(found)
    return stages


def _logical_lines(lines: Sequence[str]) -> list[str]:
    """Comments are taken out, continued lines put together."""
    joined, open_line = [], ""
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # A string may go on in the next line: only what precedes the first line is not its own.
        open_line += line if open_line.count('"') % 2 else line.strip()
        if open_line.endswith("\\"):
            open_line = open_line[:-1]
        else:
            joined.append(open_line)
            open_line = ""
    return joined


def _filled(text: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda name: known.get(name[1], name[0]), text)


def _instruction(keyword: str, rest: str) -> Instruction:
    flags = []
    while match := re.match(r"(--\S+)\s+", rest):
        flags.append(match[1])
        rest = rest[match.end() :]
    return Instruction(keyword, tuple(flags), rest)
