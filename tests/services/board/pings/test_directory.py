import pytest

from services.board.pings.answers import RefusedPingError
from services.board.pings.directory import PingDirectory

TRUTH = {
    "services": {
        "healer": {},
        "sentinel": {},
        "notifier": {},
        "Nightly_Backup": {"heartbeat": {"interval_sec": 60, "timeout_sec": 300}},
        "a_b": {},
        "a-b": {},
        "asleep": {"heartbeat": {"monitored": False}},
    }
}


@pytest.fixture
def directory(truth_of):
    return PingDirectory(truth_of(TRUTH))


@pytest.mark.parametrize("slug", ["nightly_backup", "nightly-backup", "nightly.backup"])
def test_a_slug_is_the_name_in_lower_case_with_or_without_its_signs(directory, slug):
    found = directory.find_slug(slug)
    assert (found.svc, found.bus, found.channel, found.timeout_sec) == (
        "Nightly_Backup",
        "system-redis",
        "Nightly_Backup:heartbeat",
        300,
    )


def test_a_slug_that_is_a_name_is_not_ambiguous_and_another_spelling_is(directory):
    assert directory.find_slug("a-b").svc == "a-b"
    assert directory.find_slug("a_b").svc == "a_b"
    with pytest.raises(RefusedPingError) as refused:
        directory.find_slug("a.b")
    assert (refused.value.answer.status, refused.value.answer.body) == (409, b"ambiguous slug")


@pytest.mark.parametrize("slug", ["", "nope", "healer", "sentinel", "notifier", "asleep"])
def test_monitoring_itself_and_what_is_not_monitored_can_not_be_pinged(directory, slug):
    with pytest.raises(RefusedPingError) as refused:
        directory.find_slug(slug)
    assert (refused.value.answer.status, refused.value.answer.body) == (404, b"not found")
    assert slug not in directory.by_name
