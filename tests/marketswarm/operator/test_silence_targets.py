"""What a silence can be about, by the truth alone."""

import orjson
import pytest

from marketswarm.operator.silences import Silence, find_unknown_target, list_targets, match_targets
from marketswarm.truth import parse_truth

TARGETS = list_targets(
    parse_truth(orjson.dumps({"services": {"feed-1": {"tags": ["ingest"]}, "mesh": {}}})).truth
)


def silence(*services, tags=()):
    return Silence(
        id="s", starts_at=0, ends_at=1, author="kim", reason="x", changed_at=0, services=services, tags=tags
    )


def test_services_and_buses_are_targets_with_their_tags():
    assert TARGETS == {"feed-1": ("ingest",), "mesh": (), "market-redis": (), "system-redis": ()}


def test_a_silence_matches_by_pattern_and_by_tag():
    assert set(match_targets(silence("feed-*", "mesh"), TARGETS)) == {"feed-1", "mesh"}
    assert match_targets(silence(tags=("ingest",)), TARGETS) == ["feed-1"]
    assert match_targets(silence("nobody"), TARGETS) == []


@pytest.mark.parametrize(
    ("names", "unknown"),
    [(("mesh", "system-redis"), None), (("mesh", "mash"), "mash"), (("mash*", "[a]", "m?"), None)],
)
def test_a_name_that_is_no_target_is_found_and_a_pattern_may_match_nothing(names, unknown):
    assert find_unknown_target(silence(*names), TARGETS) == unknown
