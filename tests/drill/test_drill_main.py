"""The kit's commands, as a shell runs them."""

import json

from cutwork.drill.points import POINTS
from tests.services.processes import Processes

KIT = ("python", "-m", "cutwork.drill")


def test_a_seed_is_simulated_and_its_trace_printed(processes: Processes) -> None:
    run = processes.start(*KIT, "simulate", "--seed", "3", "--jobs", "4", "--trace")
    assert run.wait(60) == 0
    assert "reconciler-0." in run.log
    assert "1 seeds held, 0 broke" in run.log


def test_seeds_may_run_at_the_same_time(processes: Processes) -> None:
    options = ("--seeds", "12", "--jobs", "4", "--processes", "2")
    run = processes.start(*KIT, "simulate", *options)
    assert run.wait(120) == 0
    assert "12 seeds held, 0 broke" in run.log
    assert "jobs (48)" in run.log


def test_every_point_is_listed_with_its_role(processes: Processes) -> None:
    run = processes.start(*KIT, "points")
    assert run.wait(60) == 0
    assert [tuple(line.split()) for line in run.log.splitlines()] == [
        (role, point) for point, role in POINTS.items()
    ]


def test_roles_die_at_a_point_and_a_table_says_what_came_of_it(processes: Processes) -> None:
    options = ("--points", "post:after", "--jobs", "3", "--json")
    run = processes.start(*KIT, "crash", *options)
    assert run.wait(150) == 0, run.log
    shown = json.loads(run.log[run.log.index("{\n") :])
    (point,) = shown["points"]
    assert (point["point"], point["victim"], point["died"]) == ("post:after", "worker", 2)
    assert shown["all"]["jobs"] == point["jobs"] >= 3
    assert shown["repeat"].endswith("crash --pool threads --jobs 3 --seed 0 --points post:after")


def test_a_point_that_is_misspelt_is_refused_with_its_neighbours(processes: Processes) -> None:
    run = processes.start(*KIT, "crash", "--points", "post:send")
    assert run.wait(60) == 2
    assert "there is no point post:send (post:sent" in run.log
    assert "python -m cutwork.drill crash --help" in run.log


def test_roles_do_not_die_against_an_api(processes: Processes) -> None:
    run = processes.start(*KIT, "crash", env={"CUTWORK_API_URL": "https://api.example"})
    assert run.wait(60) == 2
    assert "a drill never talks to a provider that is paid" in run.log


def test_a_drill_is_not_started_against_an_api(processes: Processes) -> None:
    environ = {"CUTWORK_API_URL": "https://api.example"}
    run = processes.start("cutwork", "drill", "--jobs", "1", env=environ)
    assert run.wait(60) == 2
    assert "a drill never talks to a provider that is paid" in run.log
