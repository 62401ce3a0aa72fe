from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.fetch import Validators
from services.rss_agg.settings import Feed
from services.rss_agg.store import (
    MISLED,
    Standing,
    all_fail,
    by_both,
    by_name,
    by_url,
    scopes,
    standing_of,
    summed_up,
)

A, B, C = (Feed(url=f"https://{name}.example/feed", name=name) for name in "abc")


def stored(standing, at="here"):
    words = standing.words(at)
    return {key.encode(): value.encode() for key, value in zip(words[::2], words[1::2], strict=True)}


def test_what_is_stored_is_what_is_known_again():
    standing = Standing(5.0, 6.0, 2, "404", 0.0, "https://b/", Validators('"x"', "today"), "u", "d")
    assert standing_of(stored(standing), "here", 10.0) == standing


def test_of_a_feed_that_stood_elsewhere_only_what_a_server_once_said_holds():
    standing = Standing(5.0, 6.0, 2, "410", 5.0, "https://b/", Validators('"x"', "today"), "u", "d", turn="3")
    raw = {**stored(standing), b"turn": b"3"}
    assert standing_of(raw, "there", 10.0) == Standing(validators=standing.validators, of="u", turn="3")


WORDS = st.sampled_from([b"read_at", b"not_before", b"fails", b"gone_at", b"why", b"at", b"moved"])
ANY = st.binary(max_size=30) | st.sampled_from([b"inf", b"nan", b"-1", b"1e400", b"here"])


@given(st.dictionaries(WORDS, ANY))
@settings(max_examples=100)
def test_whatever_is_stored_is_a_standing_of_the_past(raw):
    standing = standing_of(raw, "here", 10.0)
    assert 0 <= standing.read_at <= 10
    assert 0 <= standing.gone_at <= 10
    assert standing.not_before <= 86_410


def test_a_feed_that_fails_where_it_moved_to_is_looked_for_at_home_again():
    standing = Standing(moved="https://b/")
    for _ in range(MISLED):
        assert standing.moved
        standing = standing.failed("404", 1.0, None, gone=False)
    assert not standing.moved
    assert standing.well(2.0).fails == 0


def known(*feeds, **others):
    claims = [(by_url(feed.url), by_name(feed.name)) for feed in feeds]
    return {claim: both[0] for both in claims for claim in both} | others


def test_a_feed_with_a_new_name_or_a_new_address_is_the_same():
    renamed = A.model_copy(update={"name": "z"})
    moved = A.model_copy(update={"url": "https://elsewhere.example/x"})
    for now in (A, renamed, moved):
        assert scopes([B, now], known(A, B))[now.url] == by_url(A.url)


def test_one_with_both_is_another():
    other = Feed(url="https://elsewhere.example/x", name="z")
    assert scopes([other], known(A))[other.url] == by_url(other.url)


def test_where_it_moved_to_for_good_it_may_be_written_into_the_truth():
    there = Feed(url="https://new.example/feed", name="z")
    remembered = {**known(A), by_url(there.url): by_url(A.url)}
    assert scopes([there], remembered)[there.url] == by_url(A.url)
    # but not while the feed that moved is still in the truth itself
    assert scopes([there, A], remembered) == {A.url: by_url(A.url), there.url: by_url(there.url)}


def test_a_name_given_to_another_feed_takes_nothing_from_the_one_that_had_it():
    renamed = A.model_copy(update={"name": "z"})
    newcomer = Feed(url="https://elsewhere.example/x", name="a")
    for order in ([renamed, newcomer], [newcomer, renamed]):
        found = scopes(order, known(A))
        assert found == {A.url: by_url(A.url), newcomer.url: by_url(newcomer.url)}


def test_two_feeds_that_change_names_stay_what_they_are():
    a, b = A.model_copy(update={"name": "b"}), B.model_copy(update={"name": "a"})
    assert scopes([a, b], known(A, B)) == {a.url: by_url(A.url), b.url: by_url(B.url)}


def test_two_feeds_that_change_addresses_do_not_share_a_memory():
    a, b = A.model_copy(update={"url": B.url}), B.model_copy(update={"url": "https://d.example/"})
    found = scopes([a, b], known(A, B))
    assert len(set(found.values())) == 2


def test_feeds_about_which_nothing_has_changed_stay_what_they_are_whatever_others_claim():
    """The same address, written in two ways: who wrote last must not decide who is who."""
    a = Feed(url="https://site.example/feed", name="a")
    b = Feed(url="http://site.example/feed/", name="b")
    first = scopes([a, b], {})
    assert len(set(first.values())) == 2
    for last in (a, b):
        remembered = {by_both(one): first[one.url] for one in (a, b)} | {by_url(a.url): first[last.url]}
        assert scopes([a, b], remembered) == scopes([b, a], remembered) == first


def test_the_same_address_written_otherwise_is_the_same():
    for same in ("http://a.example/feed", "https://A.example:443/feed/", "https://a.example/feed#top"):
        assert by_url(same) == by_url(A.url)
    for other in ("https://a.example/feed?x=1", "https://a.example:8443/feed", "https://a.example/Feed"):
        assert by_url(other) != by_url(A.url)
    assert by_url("env:FEED") != by_url("env:OTHER")


def test_feeds_that_fail_are_named_with_their_reason():
    well, bad = Standing(read_at=1.0), Standing(read_at=1.0, why="404", fails=1)
    assert summed_up([A, B], {A.url: well}) is None
    found = {A.url: Standing(read_at=1.0, why="timeout"), B.url: well, C.url: bad}
    assert summed_up([A, B, C], found) == "2 of 3 feeds fail: a (timeout), c (404)"
    many = [Feed(url=f"http://{n}", name=str(n)) for n in range(9)]
    assert summed_up(many, {feed.url: bad for feed in many}).endswith("3 (404) and 5 more")


def test_what_moved_and_what_is_gone_is_told():
    found = {
        A.url: Standing(read_at=1.0, moved="https://x/"),
        B.url: Standing(read_at=1.0, why="410", gone_at=1.0),
        C.url: Standing(read_at=1.0, why="404"),
    }
    assert summed_up([A, B, C], found) == "1 of 3 feeds fail: c (404); 1 gone for good: b; 1 moved: a"
    assert not all_fail([A, B, C], found)
    assert all_fail([B, C], found)
    assert not all_fail([], {})
    assert not all_fail([B, C], {B.url: found[B.url]})
