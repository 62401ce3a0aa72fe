"""How the run of a command ended, as a value: without a bus and without a process."""

import pytest

from marketswarm.cli.exec import make_run


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
def test_the_outcome_as_text(run, said):
    assert run.said == said


def test_a_code_is_what_a_shell_has_and_only_0_is_a_success():
    assert [make_run(status, 1, 0).code for status in (0, 3, -9)] == [0, 3, 137]
    assert [make_run(status, 1, 0).ok for status in (0, 3, -9)] == [True, False, False]
    assert not make_run(0, 2, 0, 2).ok
