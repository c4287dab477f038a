"""The alert rules and the dashboard speak of metrics that exist, and each alert is explained."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutwork.events import Kind
from cutwork.metrics import CONDITIONS, METRICS
from cutwork.states import Attempt, State

ROOT = Path(__file__).parent.parent
EXPORTED = {metric.name: metric for metric in METRICS}
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "docker/grafana/cutwork.json").read_text())
WORDS = {
    "state": {*State, *Attempt},
    "lane": {"submit", "check", "store"},
    "by": {"callback", "poll", "reply", "policy", "operator"},
    "kind": set(Kind),
    "condition": set(CONDITIONS),
    "progress": {"waiting", "failing"},
}
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def questions() -> Iterator[str]:
    """Every expression in either file."""
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def faults(expression: str) -> list[str]:
    """What is wrong with an expression: unknown metrics, labels and words, open brackets."""
    found = []
    for name, chosen in re.findall(r"\b(cutwork_\w+)(?:\{(.*?)\})?", expression):
        metric = EXPORTED.get(name)
        if metric is None:
            found.append(f"{name} is not exported")
            continue
        for label, _, value in re.findall(r'(\w+)(=~|!~|!=|=)"(.*?)"', chosen):
            if label not in metric.labels:
                found.append(f"{name} has no label {label}")
            found += [f"{label} is never {one}" for one in value.split("|") if one not in
                      WORDS.get(label, {one})]  # fmt: skip
    for name in re.findall(r"(?:rate|increase)\((cutwork_\w+)", expression):
        if not name.endswith("_total"):
            found.append(f"{name} is no counter")
    if any(expression.count(a) != expression.count(b) for a, b in ("()", "{}", "[]")):
        found.append("a bracket is open")
    return found


def test_every_question_is_about_metrics_that_are_exported() -> None:
    wrong = {expression: faults(expression) for expression in questions() if faults(expression)}

    assert not wrong
    assert len(list(questions())) > 40


@pytest.mark.parametrize(
    "wrong",
    [
        "cutwork_job",
        'cutwork_jobs{lane="submit"}',
        'cutwork_jobs{state=~"waiting|wating"}',
        "rate(cutwork_jobs[5m])",
        "max(cutwork_jobs",
    ],
)
def test_a_wrong_question_would_be_noticed(wrong: str) -> None:
    assert len(faults(wrong)) == 1


def test_every_metric_is_looked_at_somewhere() -> None:
    asked = set(re.findall(r"cutwork_\w+", " ".join(questions())))

    assert set(EXPORTED) - asked <= {"cutwork_budget_submits"}


@each_rule
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    page, _, place = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)

    assert len(rule["annotations"]["summary"]) > 20
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert place == rule["alert"].lower()
    assert rule["alert"] in headings


def test_the_page_explains_every_alert_in_their_order_and_no_other() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (\w+)\n", page, flags=re.MULTILINE)[1:]

    assert sections[::2] == [rule["alert"] for rule in RULES]
    for text in sections[1::2]:
        assert re.findall(r"^\*\*(It means|Look|Do)\b", text, re.MULTILINE) == [
            "It means",
            "Look",
            "Do",
        ]


def test_the_dashboard_can_be_loaded() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    taken = [
        (at["x"] + dx, at["y"] + dy) for at in places for dx in range(at["w"])
        for dy in range(at["h"])
    ]  # fmt: skip

    assert len(set(ids)) == len(ids)
    assert len(set(taken)) == len(taken), "panels lie on each other"
    assert max(x for x, _ in taken) < 24
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    assert all(panel["title"] and panel["targets"] for panel in panels())
