"""What is on its way stays so over a restart, goes to each channel once, and to another when all refuse."""

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as some

from marketswarm.channels import Message, Severity
from notifier.outbox import THREADS_KEPT, Outbox


def message(ident="m1", *events, thread="", closes=()):
    raw = tuple(
        orjson.dumps({"type": "heartbeat_miss", "svc": svc, "ts": 1.0, "id": f"e.{svc}"}) for svc in events
    )
    return Message(ident, "t", "x", Severity.WARNING, 1.0, events=raw, thread=thread, closes=closes)


NOW = 1_762_433_458.0


class Kept(dict):
    """What a bus would hold."""

    def take(self, outbox):
        for name, value in outbox.changes().items():
            if value is None:
                self.pop(name, None)
            else:
                self[name] = value
        return self

    def restored(self):
        again = Outbox()
        again.restore(self)
        return again


def test_a_message_waits_for_each_of_its_channels_and_is_gone_when_all_have_it():
    outbox, kept = Outbox(), Kept()
    assert outbox.add(message("m1", "a", "b"), ["slack", "email"]) == ["slack", "email"]
    assert outbox.pending_messages("slack") == outbox.pending_messages("email") == [message("m1", "a", "b")]
    assert [outbox.covers(f"e.{svc}") for svc in "abc"] == [True, True, False]
    kept.take(outbox)
    assert outbox.record_accepted("m1", "slack").accepted == ["slack"]
    assert outbox.pending_messages("slack") == []
    assert outbox.covers("e.a"), "the mail is still to go"
    assert outbox.record_accepted("m1", "email").accepted == ["slack", "email"]
    assert not outbox.covers("e.a")
    assert not outbox.holds("m1")
    assert kept.take(outbox) == {}


def test_who_has_it_does_not_get_it_again_after_a_restart():
    outbox, kept = Outbox(), Kept()
    outbox.add(message("m1", "a"), ["slack", "email"])
    outbox.add(message("m2", "a"), ["slack"])
    outbox.record_accepted("m1", "slack")
    again = kept.take(outbox).restored()
    assert [each.id for each in again.pending_messages("slack")] == ["m2"]
    assert [each.id for each in again.pending_messages("email")] == ["m1"]
    assert again.record_accepted("m1", "slack") is None
    assert again.add(message("m3"), ["slack"]) == ["slack"]
    assert [each.id for each in again.pending_messages("slack")] == ["m2", "m3"]
    assert again.channels_with_pending() == {"slack", "email"}


def test_what_is_accepted_twice_or_was_never_sent_changes_nothing():
    outbox = Outbox()
    outbox.add(message(), ["slack"])
    assert outbox.record_accepted("m1", "slack") is not None
    assert outbox.record_accepted("m1", "slack") is None
    assert outbox.record_accepted("m9", "slack") is None
    assert outbox.record_rejection("m9", "slack", "404", ["email"]) is None


def test_a_message_for_nobody_is_not_kept():
    outbox, kept = Outbox(), Kept()
    assert outbox.add(message("m1", "a"), []) == []
    assert not outbox.covers("e.a")
    assert kept.take(outbox) == {}


def test_the_same_message_goes_to_those_alone_that_it_did_not_go_to():
    outbox = Outbox()
    outbox.add(message(), ["slack", "email"])
    outbox.record_accepted("m1", "slack")
    assert outbox.add(message(), ["slack", "email", "pager"]) == ["pager"]
    outbox.record_rejection("m1", "email", "550")
    assert outbox.add(message(), ["email"]) == ["email"], "who refused it may be asked again"


def test_what_all_refused_goes_to_another_one_and_in_the_end_nowhere():
    outbox = Outbox()
    others = ["slack", "email", "pager", "ntfy"]
    outbox.add(message("m1", "a"), ["slack", "email"])
    assert outbox.record_rejection("m1", "slack", "404", others) is None, "the mail may still go"
    assert outbox.record_rejection("m1", "email", "550", others) == "pager"
    assert outbox.pending_messages("pager")
    assert outbox.record_rejection("m1", "pager", "401", others) == "ntfy"
    assert outbox.covers("e.a")
    assert outbox.record_rejection("m1", "ntfy", "401", others) is None
    assert not outbox.covers("e.a")
    assert not outbox.holds("m1")


def test_what_one_has_goes_to_no_other_when_the_rest_refuse():
    outbox = Outbox()
    outbox.add(message(), ["slack", "email"])
    outbox.record_accepted("m1", "slack")
    assert outbox.record_rejection("m1", "email", "550", ["pager"]) is None
    assert not outbox.holds("m1")


def test_an_anchor_comes_back_with_each_later_message_of_its_thread_until_that_is_closed():
    outbox, kept = Outbox(), Kept()
    first, later = message("m1"), message("m2", thread="m1")
    last = message("m3", thread="m1", closes=("m1",))
    outbox.add(first, ["slack", "email"])
    assert outbox.anchor(first, "slack") is None
    outbox.record_accepted("m1", "slack", "17.5")
    outbox = kept.take(outbox).restored()
    assert outbox.anchor(later, "slack") == "17.5"
    assert outbox.anchor(later, "email") is None
    outbox.add(later, ["slack"])
    outbox.record_accepted("m2", "slack", "99.9")
    assert outbox.anchor(last, "slack") == "17.5", "the first one's"
    outbox.add(last, ["slack"])
    outbox.record_accepted("m3", "slack", "77.7")
    assert outbox.anchor(last, "slack") is None
    assert not [name for name in kept.take(outbox) if "o:a:" in name]


def test_anchors_are_not_kept_without_end():
    outbox, kept = Outbox(), Kept()
    for n in range(THREADS_KEPT + 10):
        outbox.add(message(f"m{n}"), ["slack"])
        outbox.record_accepted(f"m{n}", "slack", str(n))
    assert len(kept.take(outbox)) == THREADS_KEPT


def test_nonsense_in_the_state_is_passed_over():
    outbox, kept = Outbox(), Kept()
    outbox.add(message(), ["slack"])
    kept.take(outbox)
    broken = {
        "o:w:m2": b"{", "o:w:m3": b"[]", "o:w:m4": b'{"n":1,"ways":{"slack":null}}', "o:m:m5": b"x",
        "o:a:m6": b"7", "r:else": b"", "seq": b"7", "o:m:m7": kept["o:m:m1"], "o:w:m7": b'{"n":"x"}',
    }  # fmt: skip
    again = Outbox()
    again.restore({**kept, **broken})
    assert [each.id for each in again.pending_messages("slack")] == ["m1"]


steps = some.lists(
    some.tuples(
        some.sampled_from(["put", "accepted", "refused", "restart"]),
        some.sampled_from(["m1", "m2", "m3"]),
        some.sampled_from(["slack", "email", "pager"]),
    ),
    max_size=40,
)


@given(steps)
def test_whatever_happens_a_restart_changes_nothing(story):
    outbox, kept = Outbox(), Kept()
    for what, ident, channel in story:
        if what == "put":
            outbox.add(message(ident, ident), [channel, "email"])
        elif what == "accepted":
            outbox.record_accepted(ident, channel, f"{ident}.{channel}")
        elif what == "refused":
            outbox.record_rejection(ident, channel, "404", ["pager"])
        again = kept.take(outbox).restored()
        for each in ("slack", "email", "pager"):
            assert again.pending_messages(each) == outbox.pending_messages(each)
            assert [again.anchor(message(n), each) for n in ("m1", "m2")] == [
                outbox.anchor(message(n), each) for n in ("m1", "m2")
            ]
        assert [again.covers(f"e.m{n}") for n in (1, 2, 3)] == [outbox.covers(f"e.m{n}") for n in (1, 2, 3)]
        if what == "restart":
            outbox = again


def test_since_when_a_message_fails_outlasts_a_restart():
    outbox, kept = Outbox(), Kept()
    outbox.add(message("m1", "a"), ["slack"])
    assert outbox.failing_sec(message("m1", "a"), "slack", NOW) is None
    outbox.record_failure("m1", "slack", NOW)
    outbox.record_failure("m1", "slack", NOW + 30)
    outbox = kept.take(outbox).restored()
    assert outbox.failing_sec(message("m1", "a"), "slack", NOW + 60) == 60
    assert outbox.record_rejection("m1", "slack", "413", ["email"]) == "email"
    again = kept.take(outbox).restored()
    assert again.failing_sec(message("m1", "a"), "email", NOW + 70) is None
    again.record_failure("m9", "slack", NOW)
    assert again.failing_sec(message("m9"), "slack", NOW) is None


def test_a_state_without_times_or_with_wrong_ones_is_read():
    outbox, kept = Outbox(), Kept()
    outbox.add(message("m1", "a"), ["slack"])
    kept.take(outbox)
    for since in ('{"n":1,"ways":{"slack":null}}', '{"n":1,"ways":{"slack":null},"since":{"slack":"x"}}'):
        kept["o:w:m1"] = since.encode()
        again = kept.restored()
        assert [each.id for each in again.pending_messages("slack")] == ["m1"]
        assert again.failing_sec(message("m1", "a"), "slack", NOW + 9) is None


def test_it_knows_which_message_about_a_service_is_on_its_way():
    outbox, kept = Outbox(), Kept()
    for ident, about in (("m1", ("a", "b")), ("m2", ("b", "c"))):
        outbox.add(replace(message(ident), about=about), ["slack"])
    outbox = kept.take(outbox).restored()
    assert [outbox.find_pending_message(each) for each in "abcd"] == ["m1", "m1", "m2", None]
    outbox.record_accepted("m1", "slack")
    assert [outbox.find_pending_message(each) for each in "abc"] == [None, "m2", "m2"]


def test_a_clock_that_is_set_makes_no_failure_older_or_younger():
    outbox, kept = Outbox(), Kept()
    outbox.add(message("m1", "a"), ["slack"])
    outbox.record_failure("m1", "slack", NOW)
    kept.take(outbox)
    outbox.shift_times(-3600.0)
    for each in (outbox, kept.take(outbox).restored()):
        assert each.failing_sec(message("m1", "a"), "slack", NOW - 3600 + 60) == 60
