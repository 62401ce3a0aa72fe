"""What a monitor says of saves that its bus refuses: one outage, whatever can't be saved."""

from structlog.testing import capture_logs

from marketswarm.bus import BusError
from marketswarm.monitor.state import SaveFailures

REFUSED = BusError("system-redis", "refused")


def test_one_outage_is_logged_for_all_that_is_not_saved_and_its_end_once_all_is_saved():
    with capture_logs() as lines:
        failures = SaveFailures()
        failures.record_success("silences")
        for _ in range(30):
            for what in ("silences", "notes", "health"):
                failures.record_failure(what, REFUSED)
        failures.record_success("silences")
        failures.record_success("notes")
        assert failures.describe() == "health not saved on system-redis (refused)"
        failures.record_success("health")
        assert failures.describe() is None
        failures.record_failure("notes", REFUSED)
    assert failures.counts == {"silences": 30, "notes": 31, "health": 30}
    assert [(line["event"], line["what"]) for line in lines] == [
        ("monitor.not_saved", "silences"),
        ("monitor.saved_again", "health, notes, silences"),
        ("monitor.not_saved", "notes"),
    ]
