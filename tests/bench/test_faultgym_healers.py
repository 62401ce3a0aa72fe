"""The gym's other healers: their configurations, and what their logs say they did."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.faultgym import manager, monit, supervisord
from bench.faultgym.__main__ import choose_cases, group_trials
from bench.faultgym.case import Case, Expectation, HealerAction, Judgement, Trial, judge
from bench.faultgym.controls import CONTROLS
from bench.faultgym.fleet import SECTIONS
from bench.faultgym.healers import MANAGERS, SEES, Healer, find_missing
from bench.faultgym.manager import INIT, Needs, build_target_script
from bench.faultgym.report import TrialResult, render_comparison
from bench.programs import age_sec

FOLDER = Path("/private/gym")
NEEDS = Needs(
    env={}, url="redis://:a$b@127.0.0.1:1", timeout_sec=4.0, grace_sec=10.0, memory_mb={"writer": 240}
)
CASE = Case(
    name="frozen", svc="alpha", inject=lambda _fault: None, expect=Expectation.HEAL, most={"restart": 1}
)


def test_monit_has_two_checks_for_each_service_and_limits_for_those_that_have_some():
    config = monit.build_monitrc(FOLDER, ("alpha", "writer"), NEEDS.memory_mb)
    assert config.count("check process") == config.count("check program") == 2
    assert "check process alpha with pidfile /private/gym/alpha.pid" in config
    assert "if totalmem > 240 MB for 2 cycles then restart" in config.partition("check process writer")[2]
    assert "totalmem" not in config.partition("check process writer")[0]
    assert config.count("if 5 restarts within 60 cycles then unmonitor") == 4


def test_monit_listens_on_a_private_socket_alone_and_writes_no_mail():
    config = monit.build_monitrc(FOLDER, tuple(SECTIONS), {})
    assert "set httpd unixsocket /private/gym/monit.sock permission 0600" in config
    assert not {"port", "mailserver", "alert"} & set(config.split())


def test_a_stop_by_monit_is_a_restart_and_one_by_an_operator_is_none():
    text = "100.5 alpha\n101.5 beta\n103.0 alpha\n"
    assert monit.find_stops(text, [(102.0, 104.0, "alpha"), (101.0, 102.0, "alpha")]) == [
        HealerAction(100.5, "alpha", "restart"),
        HealerAction(101.5, "beta", "restart"),
    ]


def test_monit_gives_up_a_service_with_a_line_in_its_log():
    log = (
        "[2026-01-02T03:04:05+0100] error    : 'delta' process is not running\n"
        "[2026-01-02T03:04:06+0100] error    : 'delta' service restarted 5 times within 9 cycles(s) - "
        "unmonitor\n"
        "[2026-01-02T03:04:08+0100] error    : 'beta_beat' service restarted 5 times within 52 cycles(s) - "
        "unmonitor\n"
    )
    assert monit.find_given_up(log) == [(1767319447.0, "delta"), (1767319449.0, "beta")]


def test_supervisor_gives_up_a_service_with_a_line_in_its_log(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    log = (
        "2026-01-02 02:04:05,250 WARN exited: delta (exit status 1; not expected)\n"
        "2026-01-02 02:04:06,250 INFO gave up: delta entered FATAL state, too many start retries "
        "too quickly\n"
    )
    assert supervisord.find_given_up(log) == [(1767319446.25, "delta")]
    monkeypatch.undo()
    time.tzset()


def test_supervisor_takes_a_start_for_good_after_the_time_that_one_takes():
    config = supervisord.build_config(FOLDER, ("alpha", "beta"), NEEDS.grace_sec)
    assert config.count("startsecs=10\n") == 2
    assert "command=/private/gym/target.sh beta" in config
    assert "inet_http_server" not in config


def test_the_beat_is_old_at_the_timeout_and_a_start_has_its_grace():
    script = monit.build_beat_script(FOLDER, NEEDS)
    assert 'test "$age" -lt 10 && exit 0' in script
    assert 'kill -0 "$(cat "/private/gym/$1.pid")" || exit 0' in script
    assert script.endswith('|| exit 0\ntest "$left" -ge 4000\n')
    assert "-u 'redis://:a$b@127.0.0.1:1'" in script


def test_a_service_gets_its_variables_whatever_they_hold():
    script = build_target_script({"URL": "redis://:it's $HOME@host"})
    assert "export URL='redis://:it'\"'\"'s $HOME@host'\n" in script


def test_a_healer_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(manager, "find_program", lambda name: None if name == "monit" else name)
    assert find_missing(Healer.MONIT) == "monit not installed: apt-get install monit redis-tools"
    assert [find_missing(each) for each in Healer if each is not Healer.MONIT] == ["", "", ""]


def test_a_service_that_its_healer_gave_up_is_escalated_and_not_healed():
    needs_person = Case(name="loop", svc="alpha", inject=lambda _fault: None, expect=Expectation.ESCALATE)
    given_up = {"injected_at": 100.0, "given_up_at": 120.0, "has_medic": False}
    assert judge(Trial(case=needs_person, **given_up)).is_right
    assert judge(Trial(case=CASE, up_at=110.0, **given_up)).why == "escalated"


def test_cases_about_the_medic_itself_are_for_the_medic_alone():
    names = {each.name for each in choose_cases(None, Healer.MONIT)}
    assert {each.name for each in choose_cases(["medic_*", "mode_*"], Healer.MEDIC)} == {
        "medic_stalls", "medic_killed", "medic_restarted", "mode_observe", "mode_propose",
    }  # fmt: skip
    assert not any("medic" in name.replace("_owner_medic", "") or name.startswith("mode_") for name in names)
    assert {"killed_owner_medic", "frozen", "not_ours_frozen"} <= names


def test_the_controls_can_be_run_alone():
    assert choose_cases(None, Healer.MEDIC, are_controls=True) == list(CONTROLS)
    assert [each.name for each in choose_cases(["*_killed"], Healer.MONIT, are_controls=True)] == [
        "market_bus_killed", "system_bus_killed", "healer_killed",
    ]  # fmt: skip


def test_healers_are_compared_by_the_trials_that_all_of_them_had():
    well = Judgement(is_right=True, up_sec=5.0, asked=20, failed=8)
    other = Case(name="other", svc="beta", inject=lambda _fault: None, expect=Expectation.HEAL)
    by_healer = {
        "medic": [TrialResult(CASE, 1, well), TrialResult(CASE, 2, well), TrialResult(other, 1, well)],
        "supervisor": [TrialResult(CASE, 1, Judgement(is_right=False, needless=2, asked=1200, failed=1100))],
    }
    table = render_comparison(by_healer, SEES)
    assert "The same 1 trials of 1 kinds" in table
    assert "| a remedy heals it | medic | 1 of 1 (100.0 %) | 5.0 s, 5.0 s | 0 | 0 | 8 of 20 |" in table
    assert "| a remedy heals it | supervisor | 0 of 1 (0.0 %) | - | 2 | 0 | 1,100 of 1,200 |" in table
    assert "Failed requests where a service can be well again: medic 8, supervisor 1,100." in table
    assert table.endswith(SEES["supervisor"])


def test_trials_of_several_runs_are_grouped_by_their_healer():
    trials = [TrialResult(CASE, seed, Judgement(is_right=True)).to_json() for seed in (1, 2)]
    grouped = group_trials({"healer": healer, "trials": trials} for healer in ("monit", "medic", "monit"))
    assert {healer: len(mine) for healer, mine in grouped.items()} == {"monit": 4, "medic": 2}


def test_each_other_process_manager_says_what_it_sees():
    assert SEES.keys() == set(Healer) - {Healer.MEDIC}
    assert all(each.name == healer for healer, each in MANAGERS.items())


@pytest.mark.parametrize("how", ["its end", "its command's end"])
def test_a_frozen_orphan_ends_with_its_init(how, tmp_path):
    rest = "sleep 60" if how == "its end" else ""
    orphan = f'setsid sh -c "echo \\$\\$ >{tmp_path}/pid; kill -STOP \\$\\$"'
    line = f"({orphan} &); while ! test -s {tmp_path}/pid; do sleep 0.01; done; {rest}"
    with subprocess.Popen([sys.executable, str(INIT), str(os.getpid()), "sh", "-c", line]) as init:
        deadline = time.monotonic() + 30
        while not (text := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if rest:
            assert psutil.pid_exists(int(text))
            for _ in range(3):  # the death of a parent with several threads sends more than one
                init.send_signal(signal.SIGTERM)
                time.sleep(0.002)
        init.wait(30)
    assert not psutil.pid_exists(int(text))


def test_the_age_of_a_process_is_right_to_the_tick_so_a_quick_restart_is_one_after_the_fault():
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        after, started_at = time.time(), time.time() - age_sec(process.pid)
        process.communicate(b"\n")
    assert before - 0.03 < started_at < after + 0.03
    with pytest.raises(FileNotFoundError):
        age_sec(process.pid)
