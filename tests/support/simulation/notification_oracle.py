"""The oracle of the notifier, written from docs/notifications.md: it holds what people read to what is so.

It knows the events of the log, what mutes and what may hold back, and the messages; of the product's state
it knows nothing. At each look: who is down is told, or there is a reason on that page why not; who was told
of an outage or of flapping hears its end. At each message: what it says is so, no event comes twice over a
channel, no end comes without its beginning, and nothing comes inside a silence but the end of what was told
before. It counts its waits by a clock of its own (`mono`), which nobody sets; silences and windows are by the
notifier's (`wall`). All times are in seconds.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Final

import orjson

from marketswarm.channels import Message

TIMEOUT_SEC: Final = 30.0
FLAP_WINDOW_SEC: Final = 600.0
CHANGES, FLAPS_FROM, SETTLED_BELOW = 20, 0.30, 0.20
MAX_HOLD_SEC: Final = 60.0
"""How long a rate limit or the medic may hold back an outage that lasts."""
SLACK_SEC: Final = 3.5
"""To read an event, to look at what is held back, to see that a medic ended; beside the wait for a group."""
ROUNDING: Final = 0.005

_SAYINGS: Final = (
    (re.compile(r" is still down| is down and not acknowledged"), "reminder"),
    (re.compile(r" was down(?: for [^;]*)?, and is up again"), "blip"),
    (re.compile(r" went down again and again.* it is (?:up|no longer watched)"), "again up"),
    (re.compile(r" went down again and again"), "again"),
    (re.compile(r" is flapping"), "flaps"),
    (re.compile(r" has settled[:;] it is down"), "settled down"),
    (re.compile(r" has settled"), "settled up"),
    (re.compile(r" is no longer watched"), "unwatched"),
    (re.compile(r" is up(?: again)?\b| is back"), "up"),
    (re.compile(r" is down| is away"), "down"),
)
"""By its words, what a line says about a service; the first one that fits counts."""
VIEWS: Final = {
    **dict.fromkeys(("up", "unwatched", "blip", "again up", "settled up"), "up"),
    **dict.fromkeys(("down", "again", "settled down", "reminder"), "down"),
    "flaps": "flaps",
}


class OracleError(AssertionError):
    """What people were told, or not told, is wrong."""


@dataclass
class Mute:
    """A silence or a window, from `begin` up to `end` by the notifier's clock."""

    patterns: tuple[str, ...]
    tags: tuple[str, ...]
    begin: float
    end: float

    def is_active(self, wall: float) -> bool:
        return self.begin <= wall < self.end - ROUNDING

    def may_be_active(self, wall: float) -> bool:
        return self.begin - ROUNDING <= wall < self.end + ROUNDING

    def covers(self, key: str, svc: str, tags: Sequence[str]) -> bool:
        is_named = any(fnmatchcase(name, each) for each in self.patterns for name in (key, svc))
        return is_named or any(tag in self.tags for tag in tags)


@dataclass
class Case:
    """What is so with one service, target or bus, and what people know of it."""

    key: str
    svc: str
    down: bool = False
    changed_at: float = -inf
    outages: int = 0
    held_from: float = -inf  # from when a rate limit or the medic may hold back its outage
    behind_sec: float = 0.0  # by which the clock that dated its outage was behind the notifier's
    changes: list[float] = field(default_factory=list)
    misses_untold: int = 0  # since the latest message about it
    told: bool = True  # some message since its miss says that it is down, or that it flaps
    excused_at: float = -inf  # the latest look that saw a reason why no message is sent
    depended_at: float = -inf
    muted_since: float | None = None
    muted_at: float = -inf
    told_at: float | None = None  # when the message that it is down came, for the reminders
    reminded: int = 0
    acked_at: float | None = None
    limit_from: float = -inf  # when the latest message came after which the rate limit counts
    is_limited: bool = False  # the rate limit holds back misses that no message sums up
    is_latest_limited: bool = False  # its latest miss is one of them
    view: dict[str, str] = field(default_factory=dict)  # by channel, what people believe
    wrong_since: dict[str, float] = field(default_factory=dict)  # by channel
    missed: set[str] = field(default_factory=set)  # channels that were closed since they heard of it
    ends_owed: Counter[str] = field(default_factory=Counter)  # by channel, ends of what began before that

    def is_known_to_flap(self, mono: float) -> bool:
        return "flaps" in self.view.values() and self.flap_ratio(mono) >= SETTLED_BELOW - ROUNDING

    def flap_ratio(self, mono: float) -> float:
        ages = (mono - at for at in self.changes[-CHANGES:])
        return sum(max(0.0, 1.0 - age / FLAP_WINDOW_SEC) for age in ages) / CHANGES


class NotificationOracle:
    """Tell it what happens (`change`, `decided`, `hear`); `look` and `hear` raise OracleError."""

    def __init__(
        self,
        *,
        group_wait_sec: float,
        rate_limit_sec: float,
        remind_sec: float,
        channels: Sequence[str],
    ) -> None:
        self.slack_sec = SLACK_SEC + group_wait_sec
        self.rate_limit_sec, self.remind_sec = rate_limit_sec, remind_sec
        self.services: Mapping[str, Mapping[str, Any]] = {}
        self.hosts: Mapping[str, str] = {}  # by service, the machine that it runs on
        # by thread and machine, who was told to be gone, and since when it was
        self._gone: dict[tuple[str, str], dict[str, int]] = {}
        self.machines_told = 0
        self.mutes: list[Mute] = []
        self.channels = tuple(channels)  # those that are open
        self.is_away, self.away_from = False, -inf  # no notifier runs, and since when
        self.is_medic_leading = False
        self.cases: dict[str, Case] = {}
        self._heard: set[tuple[str, str]] = set()
        self._message_ids: set[str] = set()

    # -- what is so

    def change(self, key: str, svc: str, *, is_down: bool, mono: float, skew_sec: float = 0.0) -> None:
        """Note a change; `skew_sec` is by how much the clock of its writer is ahead."""
        case = self.cases.setdefault(key, Case(key, svc))
        case.down, case.changed_at = is_down, mono
        case.outages += is_down
        case.down, case.changed_at = is_down, mono
        # what its writer dates ahead counts from when it is read
        read_at = mono + max(0.0, skew_sec) if self.is_away else mono
        case.changes.append(read_at)
        case.wrong_since.clear()
        if is_down:
            case.misses_untold += 1
            case.told, case.excused_at, case.told_at, case.acked_at = False, mono, None, None
            case.depended_at = -inf
            case.held_from = read_at
            case.behind_sec = max(0.0, -skew_sec)
        self._see_causes(mono)

    def go_away(self, mono: float) -> None:
        """No notifier runs from now on."""
        self.is_away, self.away_from = True, mono

    def go_on(self, mono: float, behind_sec: float) -> None:
        """A notifier begins. By what its clock is behind that of the one before, its waits are longer.

        None is longer than if it began now.
        """
        self.is_away = False
        for case in self.cases.values():
            read = [at for at in case.changes if at < self.away_from]
            later_sec = min(behind_sec, mono - read[-1]) if read else 0.0
            case.changes = [
                *(at + later_sec for at in read),
                *(min(mono, at + behind_sec) for at in case.changes[len(read) :]),
            ]
            case.held_from = min(mono, min(mono, case.held_from) + behind_sec)
            case.limit_from = min(mono, case.limit_from + behind_sec)
            case.told_at = None if case.told_at is None else min(mono, case.told_at + behind_sec)
            if behind_sec:
                case.excused_at = mono

    def decided(self, key: str, decision: str) -> None:
        case = self.cases[key]
        case.is_limited = case.is_limited or decision == "rate_limit"
        if decision != "repeat":
            case.is_latest_limited = decision == "rate_limit"

    def acknowledge(self, svc: str, mono: float) -> None:
        for case in self.cases.values():
            if case.down and svc in (case.key, case.svc):
                case.acked_at = mono

    def set_channels(self, channels: Sequence[str]) -> None:
        """Note which channels are open. People behind a closed one know what they were told before."""
        self.channels = tuple(channels)

    # -- what people know

    def look(self, mono: float, wall: float) -> None:
        self._see_causes(mono)
        active = [each for each in self.mutes if each.is_active(wall)]
        for case in self.cases.values():
            is_muted = self._see_mutes(case, mono, active)
            if not case.down or case.told or self._reason(case, mono, is_muted=is_muted):
                case.excused_at = mono
            elif mono - case.excused_at > self.slack_sec:
                raise OracleError(
                    f"{case.key} is down for {mono - case.changed_at:.1f} s, and nobody hears it"
                )
            self._look_at_views(case, mono, is_muted=is_muted)
            self._look_at_limit(case, mono)
            self._look_at_reminder(case, mono)

    def needs_looks(self) -> bool:
        """Whether something is due that only a look sees in time."""
        return any(
            (case.down and not case.told)
            or case.wrong_since
            or "flaps" in case.view.values()
            or (case.is_limited and case.muted_since is not None)
            for case in self.cases.values()
        )

    def _see_mutes(self, case: Case, mono: float, active: Sequence[Mute]) -> bool:
        is_muted = self.is_away or not self.channels
        if active and not is_muted:
            tags = self.services.get(case.svc, {}).get("tags", ()) if case.key == case.svc else ()
            is_muted = any(each.covers(case.key, case.svc, tags) for each in active)
        if is_muted:
            case.muted_since = mono if case.muted_since is None else case.muted_since
            case.muted_at = mono
        else:
            case.muted_since = None
        return is_muted

    def _reason(self, case: Case, mono: float, *, is_muted: bool) -> str:
        """Return why the page lets no message come about an outage that began; empty if it wants one."""
        held_sec = mono - case.held_from
        if is_muted:
            return "muted"
        if case.is_known_to_flap(mono):
            return "flapping"
        if mono - case.depended_at <= TIMEOUT_SEC:
            return "depends"
        if case.is_limited and held_sec <= min(MAX_HOLD_SEC, self.rate_limit_sec):
            return "rate_limit"
        is_plain = case.key == case.svc and "/" not in case.key
        is_critical = self.services.get(case.svc, {}).get("severity") == "critical"
        if self.is_medic_leading and is_plain and not is_critical and held_sec <= MAX_HOLD_SEC:
            return "healing"
        return ""

    def _see_causes(self, mono: float) -> None:
        """Note whose cause is down; for the notifier one that came back while none ran did so after that."""
        for case in self.cases.values():
            if not case.down:
                continue
            is_known = self.is_away and mono - case.depended_at <= TIMEOUT_SEC + self.slack_sec
            if is_known or any(self._is_down(each) for each in self._causes(case.svc)):
                case.depended_at = mono

    def _is_down(self, svc: str) -> bool:
        return svc in self.cases and self.cases[svc].down

    def _causes(self, svc: str) -> Iterator[str]:
        found = [svc]
        for each in found:
            for other in self.services.get(each, {}).get("depends_on", ()):
                if other not in found:
                    found.append(other)
        return iter(found[1:])

    def _look_at_views(self, case: Case, mono: float, *, is_muted: bool) -> None:
        if not case.view:
            return
        is_asked = case.missed or "flaps" in case.view.values()  # the ratio is what takes time
        has_settled = not is_asked or case.flap_ratio(mono) < SETTLED_BELOW - ROUNDING
        for channel, view in case.view.items():
            is_wrong = has_settled if view == "flaps" else view == "down" and not case.down
            if channel not in self.channels and view != "up" and channel not in case.missed:
                case.missed.add(channel)
                has_settled = case.flap_ratio(mono) < SETTLED_BELOW - ROUNDING
            if channel in case.missed:  # it hears the end when it is open and all is well
                is_wrong = is_wrong and channel in self.channels and has_settled and not case.down
            if not is_wrong or is_muted:
                case.wrong_since.pop(channel, None)
            elif mono - case.wrong_since.setdefault(channel, mono) > self.slack_sec:
                raise OracleError(f"{channel} is told that {case.key} {view}, and never of the end of that")

    def _look_at_limit(self, case: Case, mono: float) -> None:
        ends_at = case.limit_from + self.rate_limit_sec
        if not case.is_limited:
            return
        if self.is_away:
            return
        # one that is dated before the notifier began counts as held since that date
        held_until = case.held_from - case.behind_sec + MAX_HOLD_SEC
        held_until = min(ends_at, held_until) if case.down else ends_at
        if mono > held_until and case.muted_since is not None:
            case.is_limited = False  # what is true when that ends is told then, and no more
        elif mono - max(ends_at, case.muted_at) > self.slack_sec:
            raise OracleError(f"no message sums up the outages of {case.key} that the rate limit held back")

    def _look_at_reminder(self, case: Case, mono: float) -> None:
        if case.told_at is None or not case.down or case.acked_at is not None or case.reminded:
            return
        if case.is_known_to_flap(mono):
            return
        if mono - max(case.told_at + self.remind_sec, case.muted_at) > self.slack_sec:
            raise OracleError(f"nobody is reminded that {case.key} is down")

    # -- messages

    def hear(self, message: Message, channels: Sequence[str], mono: float) -> None:
        if message.id in self._message_ids:
            raise OracleError(f"two messages with the id {message.id}: {message.title}")
        self._message_ids.add(message.id)
        for raw in message.events:
            event = orjson.loads(raw)
            for channel in channels:
                if (event["id"], channel) in self._heard:
                    raise OracleError(f"{event['id']} is told twice over {channel}: {message.title}")
                self._heard.add((event["id"], channel))
        lines = message.lines or (f"{message.title}; {message.text}",)
        self._hear_of_machines(message, lines, mono)
        said = {key: list(self._read(key, lines)) for key in message.about}
        for key, sayings in said.items():
            for saying, line in sayings:
                self._hear_about(self.cases[key], saying, line, channels, mono)
            if sayings:
                self._hold_to_the_truth(self.cases[key], *sayings[-1], mono)

    def _hear_of_machines(self, message: Message, lines: Sequence[str], mono: float) -> None:
        """Hold what a title says of machines to what is so with all their services."""
        told = {
            key for key in message.about for saying, _ in self._read(key, lines) if VIEWS[saying] == "down"
        }
        for host in set(self.hosts.values()):
            here = [svc for svc, at_home in self.hosts.items() if at_home == host]
            known = [self.cases[svc] for svc in here if svc in self.cases]
            if re.search(rf"machine {host} is gone|are gone: .*\b{host} \(", message.title):
                self.machines_told += 1
                up = [case for case in known if not case.down and mono - case.changed_at > self.slack_sec]
                if len(known) < len(here) or up:
                    raise OracleError(f"{host} is not gone, as {up} is up: {message.title}")
                self._gone[message.thread, host] = {
                    case.key: case.outages for case in known if case.key in told
                }
            if re.search(rf"machine {host} is back", message.title):
                if all(case.down and mono - case.changed_at > self.slack_sec for case in known):
                    raise OracleError(f"{host} is not back: {message.title}")
                gone = self._gone.get((message.thread, host), {})
                cases = ((self.cases[key], outage) for key, outage in gone.items())
                left = [case.key for case, outage in cases if case.down and case.outages == outage]
                if left and f"machine {host} is back:" in message.title:
                    raise OracleError(
                        f"{host} is back in part alone, as {left} is still down: {message.title}"
                    )

    def _read(self, key: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
        case = self.cases.get(key)
        name = key.replace(":", " ")
        for line in lines:
            for words, saying in _SAYINGS:
                if case is not None and line.startswith(name) and words.match(line.split("\n")[0], len(name)):
                    yield saying, line.split("\n")[0]
                    break

    def _hear_about(self, case: Case, saying: str, line: str, channels: Sequence[str], mono: float) -> None:
        is_muted = case.muted_since is not None and mono - case.muted_since > self.slack_sec
        ends_outage = saying == "flaps" and all(case.view.get(channel) == "down" for channel in channels)
        if is_muted and saying not in ("up", "unwatched") and not ends_outage:
            raise OracleError(f"told inside a silence: {line}")
        view = VIEWS[saying]
        if view == "flaps" and case.flap_ratio(mono - self.slack_sec) < FLAPS_FROM - 0.1:
            raise OracleError(f"it does not flap: {line}")
        times = re.search(r"down (once|\d+ times) more since the last message", line)
        if times and not 1 <= int(times[1].replace("once", "1").split()[0]) <= case.misses_untold:
            raise OracleError(f"it was down {case.misses_untold} times more: {line}")
        if saying == "reminder" and case.acked_at is not None and mono - case.acked_at > self.slack_sec:
            raise OracleError(f"it is acknowledged: {line}")
        is_begun = any(case.view.get(channel) in ("down", "flaps") for channel in channels)
        self._change_views(case, saying, line, channels)
        if saying == "unwatched" and not is_begun and case.misses_untold == 1:
            case.misses_untold, case.is_limited = 0, False  # the end tells the one outage that was untold
        if saying == "reminder":
            case.reminded += 1
            return
        if saying in ("down", "again", "again up", "blip", "flaps"):
            # "was down, and is up again" tells nothing of the next outage, which may be held back by then
            is_next_held = saying == "blip" and case.down and case.is_latest_limited
            case.misses_untold, case.is_limited, case.limit_from = int(is_next_held), is_next_held, mono
        if saying == "settled down":
            case.is_limited = False  # what it held back is told with that
        if view == "down":
            case.told_at, case.reminded = mono, 0
        case.told = case.told or view in ("down", "flaps")

    def _change_views(self, case: Case, saying: str, line: str, channels: Sequence[str]) -> None:
        """Note what each channel believes now. Only what it believes may end, and only once."""
        view = VIEWS[saying]
        is_rerouted = saying == "settled down" and not self._hears_flapping(case)  # so it begins there
        for channel in channels:
            before = case.view.get(channel, "nothing")
            is_begun = before in ("down", "flaps")
            if saying in ("up", "settled up", "settled down") and not is_begun and not is_rerouted:
                if not case.ends_owed[channel]:
                    raise OracleError(f"the end of what {channel} was not told ({before}): {line}")
                case.ends_owed[channel] -= 1
            # a short outage that nobody was told of ends nothing that the channel believes
            is_end = view == "up" and saying != "blip"
            case.ends_owed[channel] += is_begun and not is_end and channel in case.missed
            case.view[channel] = view
            case.wrong_since.pop(channel, None)
            case.missed.discard(channel)

    def _hears_flapping(self, case: Case) -> bool:
        """Return True if a channel that is open believes that it flaps."""
        return any(case.view.get(channel) == "flaps" for channel in self.channels)

    def _hold_to_the_truth(self, case: Case, saying: str, line: str, mono: float) -> None:
        """The last thing that a message says of a service is so, but for a change that is not read yet."""
        is_so = {"up": not (case.down and case.told), "down": case.down, "flaps": True}[VIEWS[saying]]
        if not is_so and mono - case.changed_at > self.slack_sec:
            raise OracleError(f"it is not so: {line}")
