"""The fault gym: its table of cases is whole, and its judgement is that of made-up timelines."""

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from bench.faultgym.__main__ import split_cases
from bench.faultgym.case import Case, Expectation, HealerAction, Trial, judge
from bench.faultgym.controls import CONTROLS
from bench.faultgym.faults import FAULTS
from bench.faultgym.fleet import BEATS_PER_TIMEOUT, ON_DEMAND, OUTSIDE, SECTIONS, build_truth
from bench.faultgym.report import (
    BEGIN,
    COMPARED_BEGIN,
    END,
    TrialResult,
    find_percentile,
    parse_trial,
    render_failures,
    render_table,
    replace_table,
)
from bench.faultgym.runner import find_services, leave_out_missing
from marketswarm.operator.healing import EntryKind, TimelineEntry
from marketswarm.truth import parse_truth
from services.medic.remedies import Remedy
from services.medic.settings import MedicSettings
from services.mesh.settings import MeshSettings

CASE = Case(
    name="frozen", svc="alpha", inject=lambda _fault: None, expect=Expectation.HEAL, most={"restart": 1}
)
RESTART = HealerAction(103.0, "alpha", "restart")


def entry(ts: float, what: EntryKind, svc: str = "alpha", **more: str) -> TimelineEntry:
    return TimelineEntry(incident=f"{svc}.1", ts=ts, svc=svc, what=what, **more)


HEALED = Trial(
    case=CASE,
    injected_at=100.0,
    entries=(
        entry(102.0, EntryKind.OPENED, reason="silent"),
        entry(103.0, EntryKind.ACTED, remedy="restart"),
        entry(104.5, EntryKind.VERIFIED, remedy="restart"),
        entry(106.0, EntryKind.RESOLVED, reason="healed"),
    ),
    actions=(RESTART,),
    up_at=104.0,
)


def test_the_cases_have_names_of_their_own_and_are_as_many_as_the_docs_say():
    names = Counter(case.name for case in (*FAULTS, *CONTROLS))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(FAULTS) >= 40
    assert len(CONTROLS) >= 15


def test_each_case_says_what_is_right_about_services_that_there_are():
    for case in (*FAULTS, *CONTROLS):
        assert case.svc in {*SECTIONS, *OUTSIDE}, case.name
        assert case.is_control is (case.expect is Expectation.NOTHING), case.name
        assert bool(case.reports) is (case.expect is Expectation.REPORT), case.name
        assert case.mend is not None or case.expect is not Expectation.ESCALATE, case.name
        assert set(case.most) <= set(Remedy), case.name
        may_act = case.expect in (Expectation.HEAL, Expectation.ESCALATE)
        assert case.most or case.expect is not Expectation.HEAL, case.name
        assert may_act or not case.most, case.name


def test_cases_that_touch_one_service_the_whole_fleet_or_its_clock_have_fleets_of_their_own():
    alone = replace(CASE, name="alone", is_alone=True)
    of_clock = replace(alone, name="clock", steps_clock=True)
    assert split_cases([CASE, alone, of_clock, CASE]) == [[CASE, CASE], [alone], [of_clock]]


def test_a_case_for_which_something_is_missing_is_skipped_with_a_line(capsys):
    missing = replace(CASE, name="disk_full", find_missing=lambda: "no rights to mount a disk")
    assert leave_out_missing([missing, CASE]) == [CASE]
    assert capsys.readouterr().err == "skipped disk_full: no rights to mount a disk\n"


def test_what_only_some_cases_need_runs_only_with_these():
    of_one = {case.svc for case in (*FAULTS, *CONTROLS) if case.svc in ON_DEMAND}
    assert of_one <= find_services([case for case in FAULTS if case.svc in of_one])
    whole = find_services([replace(CASE, is_alone=True)])
    assert whole == {*SECTIONS, *OUTSIDE} - ON_DEMAND
    assert not ON_DEMAND & find_services([each for each in (*FAULTS, *CONTROLS) if not each.is_for_medic])


def test_the_truth_of_the_gym_is_one_that_medic_takes():
    document = build_truth(3.0, has_medic=True)
    MedicSettings.model_validate(document["services"]["medic"])
    for svc in document["services"].values():
        svc["heartbeat"] = {"interval_sec": 0.5, "timeout_sec": 3.0}
    buses = {name: {"url": f"redis://{name}:6379"} for name in ("system-redis", "market-redis")}
    assert parse_truth(orjson.dumps({**document, "buses": buses})).truth.services.keys() >= SECTIONS.keys()


def test_what_mesh_says_of_a_bus_outage_is_over_before_medic_takes_it_for_one_of_mesh():
    services = build_truth(3.0, has_medic=True)["services"]
    interval_sec = 3.0 / BEATS_PER_TIMEOUT
    flow_sec = MeshSettings.model_validate(services["mesh"]).settings.flow_sec
    assert flow_sec + interval_sec < services["medic"]["settings"]["degraded_sec"]


def test_a_healed_outage_has_its_times_and_no_fault():
    said = judge(HEALED)
    assert said.is_right
    assert (said.detected_sec, said.verified_sec, said.up_sec) == (2.0, 2.5, 4.0)
    assert (said.needless, said.harmful, said.false) == (0, 0, 0)


def test_what_a_restart_alone_heals_is_well_in_a_new_process_only():
    by_name = {case.name: case.needs_restart for case in (*FAULTS, *CONTROLS)}
    assert all(by_name[name] for name in ("leaking", "killed", "frozen_mesh_frozen"))
    assert not any(
        by_name[name] for name in ("stale_quotes", "cache_is_not_the_cause", "crash_loop", "noisy_log")
    )


def test_a_second_restart_is_needless_and_one_of_another_service_is_harmful():
    again = replace(HEALED, actions=(RESTART, RESTART, HealerAction(103.0, "beta", "restart")))
    said = judge(again)
    assert (said.is_right, said.needless, said.harmful) == (False, 1, 1)


def test_a_remedy_that_the_case_does_not_name_is_needless():
    cleared = replace(HEALED, actions=(HealerAction(103.0, "alpha", "quotes_cache"),))
    assert judge(cleared).needless == 1


def test_a_service_that_is_still_down_is_not_healed_whatever_the_timeline_says():
    assert judge(replace(HEALED, up_at=None)).why == "not healed"


def test_a_remedy_that_was_never_verified_is_not_right():
    entries = tuple(each for each in HEALED.entries if each.what is not EntryKind.VERIFIED)
    assert judge(replace(HEALED, entries=entries)).why == "healed, but not verified: opened, acted, resolved"


def test_a_remedy_for_several_services_is_verified_on_any_of_them_and_a_restart_on_its_own():
    entries = tuple(replace(each, svc="beta") for each in HEALED.entries)
    both = replace(HEALED, entries=entries, case=replace(CASE, also=("beta",)))
    assert judge(both).why.startswith("healed, but not verified: ")
    of_the_truth = replace(both.case, most={"restart": 1, "roll_back_truth": 1})
    assert judge(replace(both, case=of_the_truth)).is_right


def test_a_service_that_was_up_again_before_its_remedy_is_right_without_one():
    entries = (HEALED.entries[0], entry(103.0, EntryKind.RESTARTED))
    assert judge(replace(HEALED, entries=entries, actions=())).is_right
    assert judge(replace(HEALED, entries=(), actions=())).is_right, "the healer did not even see it"
    of_a_cache = replace(HEALED, entries=(), actions=(), case=replace(CASE, most={"quotes_cache": 1}))
    assert judge(of_a_cache).why == "healed, but not verified: nothing"


@pytest.mark.parametrize("expect", [Expectation.NOTHING, Expectation.REPORT])
def test_any_action_where_nothing_may_be_done_is_harmful(expect):
    case = replace(CASE, expect=expect, most={}, reports="medic/bus" if expect is Expectation.REPORT else "")
    alerts = ((101.0, "medic/bus_memory/market-redis"),)
    assert judge(Trial(case=case, injected_at=100.0, alerts=alerts)).is_right
    assert judge(Trial(case=case, injected_at=100.0, alerts=alerts, actions=(RESTART,))).harmful == 1


def test_what_must_be_reported_and_is_not_is_a_failure():
    case = replace(CASE, expect=Expectation.REPORT, most={}, reports="medic/bus")
    assert judge(Trial(case=case, injected_at=100.0)).why == "not reported"


def test_what_no_remedy_heals_must_be_escalated_and_never_called_healed():
    case = replace(CASE, expect=Expectation.ESCALATE)
    escalated = Trial(case=case, injected_at=100.0, entries=(entry(110.0, EntryKind.ESCALATED),))
    assert judge(escalated).is_right
    assert judge(replace(escalated, entries=HEALED.entries)).why == "not escalated, 1 falsely healed"


def test_requests_are_counted_with_the_trial():
    said = judge(replace(HEALED, asked=20, failed=8))
    assert (said.asked, said.failed) == (20, 8)


def test_without_a_medic_the_first_alert_about_the_service_is_its_detection():
    trial = Trial(
        case=CASE, injected_at=100.0, alerts=((101.0, "beta"), (103.0, "alpha")), up_at=105.0,
        actions=(RESTART,), has_medic=False,
    )  # fmt: skip
    assert (judge(trial).is_right, judge(trial).detected_sec) == (True, 3.0)


def test_the_table_has_a_row_for_each_expectation_and_names_what_went_wrong():
    results = [
        TrialResult(CASE, 1, judge(HEALED)),
        TrialResult(CASE, 2, judge(replace(HEALED, up_at=None))),
        TrialResult(
            replace(CASE, name="quiet", expect=Expectation.NOTHING, is_control=True), 1, None, "no fleet"
        ),
    ]
    table = render_table(results)
    assert "| a remedy heals it | 1 | 2 | 1 (50.0 %) | 2.0 s, 2.0 s | 2.5 s, 2.5 s | 0 | 0 | 0 |" in table
    assert "| controls: nothing may be done | 1 | 1 | 0 (0.0 %) | - | - | 0 | 0 | 0 |" in table
    assert render_failures(results).splitlines() == [
        "- `frozen`, seed 2: not healed",
        "- `quiet`, seed 1: no fleet",
    ]
    assert find_percentile([1.0, 2.0, 3.0, 4.0], 95) == 4.0


def test_trials_of_an_earlier_run_are_read_back():
    results = [TrialResult(CASE, 1, judge(HEALED)), TrialResult(CASE, 2, None, "no fleet")]
    assert [parse_trial(each.to_json(), {CASE.name: CASE}) for each in results] == results
    assert parse_trial(results[0].to_json(), {}) is None


def test_the_table_of_a_page_is_replaced_between_its_marks():
    page = "a\n<!-- figures: written by make faultgym -->\nold\n<!-- end of the figures -->\nb\n"
    assert "new" in replace_table(page, "new")
    assert "old" not in replace_table(page, "new")
    with pytest.raises(ValueError, match="the page lacks"):
        replace_table("no marks", "new")


def test_the_comparison_has_a_place_of_its_own_on_the_page():
    page = f"{BEGIN}\nold\n{END}\n{COMPARED_BEGIN}\nold\n{END}\n"
    assert (
        replace_table(page, "new", COMPARED_BEGIN)
        == f"{BEGIN}\nold\n{END}\n{COMPARED_BEGIN}\n\nnew\n\n{END}\n"
    )
