import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.fetch import Validators
from services.rss_agg.reader import should_read
from services.rss_agg.settings import Feed
from services.rss_agg.store import (
    FORGET_MOVE_AFTER,
    FeedState,
    all_fail,
    assign_scopes,
    claim_by_name,
    claim_by_url,
    claim_by_url_and_name,
    parse_feed_state,
    summarize,
)
from support.examples import examples

A, B, C = (Feed(url=f"https://{name}.example/feed", name=name) for name in "abc")


def stored(state, at="here"):
    return {key.encode(): value.encode() for key, value in state.to_fields(at).items()}


def test_what_is_stored_is_what_is_known_again():
    state = FeedState(5.0, 6.0, 2, "404", 0.0, "https://b/", Validators('"x"', "today"), "u", "d")
    assert parse_feed_state(stored(state), "here", 10.0) == state


def test_of_a_feed_that_stood_elsewhere_only_what_a_server_once_said_holds():
    state = FeedState(5.0, 6.0, 2, "410", 5.0, "https://b/", Validators('"x"', "today"), "u", "d", turn="3")
    raw = {**stored(state), b"turn": b"3"}
    assert parse_feed_state(raw, "there", 10.0) == FeedState(
        validators=state.validators, validators_of="u", turn="3"
    )


WORDS = st.sampled_from([b"read_at", b"not_before", b"fails", b"gone_at", b"why", b"at", b"moved"])
ANY = st.binary(max_size=30) | st.sampled_from([b"inf", b"nan", b"-1", b"1e400", b"here"])


@given(st.dictionaries(WORDS, ANY))
@settings(max_examples=examples(250))
def test_whatever_is_stored_is_a_standing_of_the_past(raw):
    state = parse_feed_state(raw, "here", 10.0)
    assert 0 <= state.read_at <= 10
    assert 0 <= state.gone_at <= 10
    assert state.not_before <= 86_410


@pytest.mark.parametrize("retry_after_sec", [None, 600.0])
def test_a_feed_that_was_read_by_a_clock_that_was_set_back_is_read_again(retry_after_sec):
    now, ahead = 1_000_000.0, 1_000_000.0 + 20 * 86_400
    read = FeedState().after_failure("503", ahead, retry_after_sec, gone=False)
    state = parse_feed_state(stored(read), "here", now)
    assert should_read(state, 60.0, now)
    again = parse_feed_state(stored(state.after_success(now)), "here", now + 1)
    assert not should_read(again, 60.0, now + 1)


def test_a_feed_that_an_instance_with_a_fast_clock_has_read_is_not_read_again_at_once():
    now = 1_000_000.0
    state = parse_feed_state(stored(FeedState(read_at=now + 3)), "here", now)
    assert not should_read(state, 60.0, now)


def test_a_pause_ends_a_day_after_the_reading_that_it_is_of_at_the_latest():
    raw = {**stored(FeedState(read_at=1000.0)), b"not_before": b"1e14"}
    assert parse_feed_state(raw, "here", 80_000.0).not_before == 87_400.0


def test_a_feed_that_fails_where_it_moved_to_is_looked_for_at_home_again():
    state = FeedState(moved_to="https://b/")
    for _ in range(FORGET_MOVE_AFTER):
        assert state.moved_to
        state = state.after_failure("404", 1.0, None, gone=False)
    assert not state.moved_to
    assert state.after_success(2.0).failures == 0


def known(*feeds, **others):
    claims = [(claim_by_url(feed.url), claim_by_name(feed.name)) for feed in feeds]
    return {claim: both[0] for both in claims for claim in both} | others


def test_a_feed_with_a_new_name_or_a_new_address_is_the_same():
    renamed = A.model_copy(update={"name": "z"})
    moved = A.model_copy(update={"url": "https://elsewhere.example/x"})
    for now in (A, renamed, moved):
        assert assign_scopes([B, now], known(A, B))[now.url] == claim_by_url(A.url)


def test_one_with_both_is_another():
    other = Feed(url="https://elsewhere.example/x", name="z")
    assert assign_scopes([other], known(A))[other.url] == claim_by_url(other.url)


def test_where_it_moved_to_for_good_it_may_be_written_into_the_truth():
    there = Feed(url="https://new.example/feed", name="z")
    remembered = {**known(A), claim_by_url(there.url): claim_by_url(A.url)}
    assert assign_scopes([there], remembered)[there.url] == claim_by_url(A.url)
    # but not while the feed that moved is still in the truth itself
    assert assign_scopes([there, A], remembered) == {
        A.url: claim_by_url(A.url),
        there.url: claim_by_url(there.url),
    }


def test_a_name_given_to_another_feed_takes_nothing_from_the_one_that_had_it():
    renamed = A.model_copy(update={"name": "z"})
    newcomer = Feed(url="https://elsewhere.example/x", name="a")
    for order in ([renamed, newcomer], [newcomer, renamed]):
        found = assign_scopes(order, known(A))
        assert found == {A.url: claim_by_url(A.url), newcomer.url: claim_by_url(newcomer.url)}


def test_two_feeds_that_change_names_stay_what_they_are():
    a, b = A.model_copy(update={"name": "b"}), B.model_copy(update={"name": "a"})
    assert assign_scopes([a, b], known(A, B)) == {a.url: claim_by_url(A.url), b.url: claim_by_url(B.url)}


def test_two_feeds_that_change_addresses_do_not_share_a_memory():
    a, b = A.model_copy(update={"url": B.url}), B.model_copy(update={"url": "https://d.example/"})
    found = assign_scopes([a, b], known(A, B))
    assert len(set(found.values())) == 2


def test_feeds_about_which_nothing_has_changed_stay_what_they_are_whatever_others_claim():
    """The same address, written in two ways: who wrote last must not decide who is who."""
    a = Feed(url="https://site.example/feed", name="a")
    b = Feed(url="http://site.example/feed/", name="b")
    first = assign_scopes([a, b], {})
    assert len(set(first.values())) == 2
    for last in (a, b):
        remembered = {claim_by_url_and_name(one): first[one.url] for one in (a, b)} | {
            claim_by_url(a.url): first[last.url]
        }
        assert assign_scopes([a, b], remembered) == assign_scopes([b, a], remembered) == first


def test_the_same_address_written_otherwise_is_the_same():
    for same in ("http://a.example/feed", "https://A.example:443/feed/", "https://a.example/feed#top"):
        assert claim_by_url(same) == claim_by_url(A.url)
    for other in ("https://a.example/feed?x=1", "https://a.example:8443/feed", "https://a.example/Feed"):
        assert claim_by_url(other) != claim_by_url(A.url)
    assert claim_by_url("env:FEED") != claim_by_url("env:OTHER")


def test_feeds_that_fail_are_named_with_their_reason():
    well, bad = FeedState(read_at=1.0), FeedState(read_at=1.0, error="404", failures=1)
    assert summarize([A, B], {A.url: well}) is None
    found = {A.url: FeedState(read_at=1.0, error="timeout"), B.url: well, C.url: bad}
    assert summarize([A, B, C], found) == "2 of 3 feeds fail: a (timeout), c (404)"
    many = [Feed(url=f"http://{n}", name=str(n)) for n in range(9)]
    assert summarize(many, {feed.url: bad for feed in many}).endswith("3 (404) and 5 more")


def test_what_moved_and_what_is_gone_is_told():
    found = {
        A.url: FeedState(read_at=1.0, moved_to="https://x/"),
        B.url: FeedState(read_at=1.0, error="410", gone_at=1.0),
        C.url: FeedState(read_at=1.0, error="404"),
    }
    assert summarize([A, B, C], found) == "1 of 3 feeds fail: c (404); 1 gone for good: b; 1 moved: a"
    assert not all_fail([A, B, C], found)
    assert all_fail([B, C], found)
    assert not all_fail([], {})
    assert not all_fail([B, C], {B.url: found[B.url]})
