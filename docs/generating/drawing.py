"""``docs/images/states.svg``: the ways that a job usually takes; each is an arrow of the table."""

from dataclasses import dataclass

from cutwork.states import TRANSITIONS, Event, State

_WIDTH, _HEIGHT = 96, 40
_PLACES = {
    State.QUEUED: (90, 90),
    State.SUBMITTING: (290, 90),
    State.WAITING: (490, 90),
    State.STORING: (690, 90),
    State.SUCCEEDED: (890, 90),
    State.UNCERTAIN: (390, 230),
    State.HELD: (690, 330),
    State.FAILED: (490, 330),
    State.CANCELLED: (890, 330),
}
_COLOURS = {
    State.SUCCEEDED: "#d7efe4",
    State.HELD: "#fbeecb",
    State.UNCERTAIN: "#fbeecb",
    State.FAILED: "#f7d9d6",
    State.CANCELLED: "#e7e7e7",
}
_STYLE = (
    "text{font:15px sans-serif;fill:#222;text-anchor:middle}"
    ".e{font-size:13.5px;fill:#555;stroke:#fff;stroke-width:5px;paint-order:stroke}"
    "path{fill:none;stroke:#666;stroke-width:1.4;marker-end:url(#a)}"
    ".main{stroke:#0a7d5a;stroke-width:2.6;marker-end:url(#m)}"
)
_MARKS = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}"'
    f' markerHeight="{size}" orient="auto"><path d="M0 0L8 4L0 8z" style="fill:{colour};'
    'stroke:none;marker-end:none"/></marker>'
    for name, colour, size in (("a", "#666", 7), ("m", "#0a7d5a", 4.5))
)


@dataclass(frozen=True)
class Arrow:
    """One way: its path in pixels, and where the event's name stands."""

    source: State
    event: Event
    path: str
    label: tuple[int, int]
    main: bool = False

    @property
    def target(self) -> State:
        return TRANSITIONS[self.source, self.event]


ARROWS = (
    Arrow(State.QUEUED, Event.CLAIMED, "M138 90H240", (190, 82), main=True),
    Arrow(State.SUBMITTING, Event.ACCEPTED, "M338 90H440", (390, 82), main=True),
    Arrow(State.WAITING, Event.DONE, "M538 90H640", (590, 82), main=True),
    Arrow(State.STORING, Event.STORED, "M738 90H840", (790, 82), main=True),
    Arrow(State.SUBMITTING, Event.NOT_SENT, "M276 72C246 20 134 20 104 71", (190, 28)),
    Arrow(State.SUBMITTING, Event.DONE, "M304 72C360 0 620 0 676 71", (490, 14)),
    Arrow(State.STORING, Event.LINK_DEAD, "M672 72C640 36 540 36 508 71", (590, 40)),
    Arrow(State.SUBMITTING, Event.LOST, "M304 108L366 211", (320, 168)),
    Arrow(State.UNCERTAIN, Event.RESUBMIT, "M342 230C200 230 110 190 94 109", (164, 214)),
    Arrow(State.UNCERTAIN, Event.ACCEPTED, "M414 212L474 109", (430, 168)),
    Arrow(State.UNCERTAIN, Event.DONE, "M438 222C560 204 640 160 672 109", (602, 176)),
    Arrow(State.UNCERTAIN, Event.HOLD, "M438 238C540 246 620 276 662 311", (588, 250)),
    Arrow(State.UNCERTAIN, Event.GIVE_UP, "M408 248L464 311", (410, 288)),
    Arrow(State.WAITING, Event.FAILED_FINAL, "M490 108V311", (498, 276)),
    Arrow(State.STORING, Event.HOLD, "M690 108V311", (712, 214)),
    Arrow(State.HELD, Event.CANCEL, "M738 330H841", (790, 322)),
    Arrow(State.HELD, Event.RETRY, "M672 348C560 420 60 420 72 109", (320, 394)),
    Arrow(State.FAILED, Event.RETRY, "M442 334C220 334 110 250 84 109", (236, 316)),
)


def drawn() -> str:
    """The picture."""
    lines = []
    for one in ARROWS:
        kind = ' class="main"' if one.main else ""
        x, y = one.label
        lines.append(f'<path{kind} d="{one.path}"/>')
        lines.append(f'<text class="e" x="{x}" y="{y}">{one.event}</text>')
    for state, (x, y) in _PLACES.items():
        left, top = x - _WIDTH // 2, y - _HEIGHT // 2
        fill = _COLOURS.get(state, "#e4eefb")
        lines.append(
            f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"'
            f' fill="{fill}" stroke="#888"/><text x="{x}" y="{y + 5}">{state}</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 420" width="980" height="420"'
        ' role="img" aria-label="The ways that a job usually takes from state to state">'
        f'<style>{_STYLE}</style><defs>{_MARKS}</defs><rect width="980" height="420" rx="8"'
        f' fill="#fff"/>{"".join(lines)}</svg>\n'
    )
