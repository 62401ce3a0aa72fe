from structlog.testing import capture_logs

from marketswarm.detector import Publication, State, Verdict
from marketswarm.monitor.verdict_log import MAX_LOGGED, VerdictLog


def test_of_very_many_verdicts_in_a_second_only_the_number_is_logged():
    verdict, record = Verdict("svc", State.DOWN, Publication.ALERT, 1.0), VerdictLog()
    with capture_logs() as logged:
        for _ in range(MAX_LOGGED + 3):
            record.record(verdict, is_leader=True)
        record.end_second()
    assert [line["event"] for line in logged[:-1]] == ["service.down"] * MAX_LOGGED
    assert (logged[-1]["event"], logged[-1]["count"]) == ("monitor.verdicts_not_logged", 3)
    with capture_logs() as logged:
        record.record(verdict, is_leader=True)
        record.end_second()
    assert [line["event"] for line in logged] == ["service.down"]


def test_how_many_misses_were_late_is_logged_once_a_second():
    record = VerdictLog()
    with capture_logs() as logged:
        for late_sec in (0.02, 4.4, 10.2, 0.0):
            record.note_delay(late_sec)
        record.end_second()
        record.end_second()
    assert [(line["event"], line["count"], line["late_sec"]) for line in logged] == [
        ("monitor.late", 2, 10.2)
    ]
