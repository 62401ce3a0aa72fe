"""The feed of the detector: which services can't be heard."""

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.bus.listener import read_clocks
from marketswarm.monitor.feed import DetectorFeed
from support.simulation.manual_detector import watch

MAX_NAMED = 5
NAMES = [f"svc{n}" for n in range(MAX_NAMED + 3)]
some = st.sets(st.sampled_from(NAMES))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("refuse"), some),
        st.tuples(st.just("restore"), some),
        st.tuples(st.just("watch"), some),
        st.tuples(st.just("watch_slower"), some),
    ),
    max_size=12,
)


def make_feed() -> DetectorFeed:
    return DetectorFeed(
        publish=lambda _verdict: None,
        wake=lambda: None,
        notify_session_opened=lambda _bus: None,
        notify_silence_ended=lambda: None,
    )


def named(text: str | None) -> tuple[set[str], int]:
    """The names in the text, and how many others there are."""
    if text is None:
        return set(), 0
    names, _, more = text.removeprefix("not allowed to hear ").partition(" and ")
    return set(names.split(", ")), int(more.removesuffix(" more") or 0)


@given(steps)
def test_the_services_that_can_not_be_heard_are_named_whatever_happened_to_them(happened):
    feed = make_feed()
    feed.detector.set_roster([watch(svc) for svc in NAMES], {"bus": 10.0}, read_clocks())
    for what, chosen in happened:
        now = read_clocks()
        if what == "refuse":
            feed.on_channels_refused("bus", {f"{svc}:heartbeat" for svc in chosen}, now)
        elif what == "restore":
            for svc in sorted(chosen):
                feed.detector.restore_refused_channel(svc, now.wall - 60, now)
        else:
            interval = 10.0 if what == "watch" else 20.0
            feed.detector.set_roster(
                [watch(svc, interval, 60.0) for svc in sorted(chosen)], {"bus": 10.0}, now
            )
        services = feed.detector.services.values()
        refused = {each.svc for each in services if each.channel_refused_at is not None}
        names, more = named(feed.describe_refused_channels())
        assert names <= refused
        assert len(names) == min(len(refused), MAX_NAMED)
        assert len(names) + more == len(refused)
