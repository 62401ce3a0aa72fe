from marketswarm.detector.states import Publication, State
from marketswarm.detector.verdict import ChangeTimes, Subject, Verdict


def test_a_verdict_is_made_again_from_what_is_kept_of_it():
    plain = Verdict("a", State.UP, Publication.LOG, 1.0)
    values = {"reason": "silent", "age_sec": 0.0, "boot": "", "restarted": False, "event_id": "x"}
    for verdict in (plain, *(plain._replace(**{name: value}) for name, value in values.items())):
        assert Verdict(*verdict.trim()) == verdict
    up = plain._replace(timeout_sec=30.0, age_sec=0.0, boot="b", i=7)
    assert up.trim() == ("a", State.UP, Publication.LOG, 1.0, Subject.SERVICE, 30.0, 0.0, "b", 7)


def test_changes_of_one_service_are_told_at_different_milliseconds_of_a_clock_that_may_be_set():
    times = ChangeTimes()
    assert [times.date("a", 1000.0) for _ in range(3)] == [1000.0, 1000.001, 1000.002]
    assert times.date("b", 1000.0004) == 1000.0004, "another's, and nothing is rounded without need"
    assert times.date("a", 1000.5) == 1000.5
    several = [times.date("a", 1000.999) for _ in range(3)]
    assert several == [1000.999, 1001.0, 1001.001]
    assert times.date("a", 1001.0) == 1001.002, "a second is over, and what was told for later still counts"
    assert times.date("a", 900.0) == 900.0, "set back"
    assert times.date("a", 900.0) == 900.001
