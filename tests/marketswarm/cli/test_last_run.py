import pytest

from marketswarm.cli.last_run import describe_last_run, make_run
from marketswarm.cli.service_status import ServiceRow
from marketswarm.cli.status import _describe_state, _state_style


def row(run, **more):
    known = {
        "svc": "backup",
        "verdict": "up",
        "silence_sec": 1.0,
        "timeout_sec": 30.0,
        "instances": 1,
        "boot": None,
    }
    known |= {"rev": 1, "restarts": 0, "status": "ok", "detail": None, "bus": "system-redis"}
    return ServiceRow(**known | more, last_run=run)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (make_run(0, 12.4, 0), "exit 0 after 12.4 s"),
        (make_run(3, 4000, 0), "exit 3 after 66 min 40 s"),
        (make_run(-9, 1, 0), "ended by SIGKILL after 1 s"),
        (make_run(-40, 1, 0), "ended by signal 40 after 1 s"),
        (make_run(-15, 2, 0, 2), "ended by SIGTERM after 2 s, its limit of 2 s over"),
        (make_run(0, 2, 0, 2), "exit 124 after 2 s, its limit of 2 s over"),
    ],
)
def test_an_end_in_words(run, said):
    assert run.said == said


def test_a_code_is_what_a_shell_has_and_only_0_is_well():
    assert [make_run(status, 1, 0).code for status in (0, 3, -9)] == [0, 3, 137]
    assert [make_run(status, 1, 0).ok for status in (0, 3, -9)] == [True, False, False]
    assert not make_run(0, 2, 0, 2).ok


def test_status_shows_it_unless_the_goodbye_does():
    run = {"said": "exit 3 after 1 s", "ts": 0, "ok": False}
    assert _describe_state(row(run), 0).startswith("ok; last run exit 3 after 1 s at ")
    assert _describe_state(row(run, status=None), 0).startswith("last run exit 3")
    assert (
        _describe_state(row(run, status="stopping", detail="exit 3 after 1 s"), 0)
        == "stopping: exit 3 after 1 s"
    )
    assert _state_style(row(run)) == "yellow"
    assert _state_style(row(run | {"ok": True})) == ""


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"said": 5},
        {"said": "x", "ts": 1e99},
        {"said": "x"},
        {"said": ["x"]},
        {"said": "x" * 9999, "ts": "y"},
    ],
)
def test_whatever_stands_in_its_place_can_be_shown(run):
    assert len(_describe_state(row(run), 0)) < 140


def test_what_steers_a_terminal_does_not():
    assert "\x1b" not in _describe_state(row({"said": "\x1b[2J", "ts": 0}), 0)
    assert describe_last_run({"said": ""}, str) is None
