from marketswarm.detector.states import Publication, State
from marketswarm.detector.verdict import Subject, Verdict


def test_a_verdict_is_made_again_from_what_is_kept_of_it():
    plain = Verdict("a", State.UP, Publication.LOG, 1.0)
    values = {"reason": "silent", "age_sec": 0.0, "boot": "", "restarted": False, "event_id": "x"}
    for verdict in (plain, *(plain._replace(**{name: value}) for name, value in values.items())):
        assert Verdict(*verdict.trim()) == verdict
    up = plain._replace(timeout_sec=30.0, age_sec=0.0, boot="b", i=7)
    assert up.trim() == ("a", State.UP, Publication.LOG, 1.0, Subject.SERVICE, 30.0, 0.0, "b", 7)
