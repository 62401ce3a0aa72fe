"""`heartbeat_gap`: restarts and silences while no healer listened, and the saved beats that reveal them.

Pure. The detector reports its beats to a `RestartObserver`, and knows nothing else about restarts. The next
beat after a gap is compared with the last one before it: its `boot` and `i` show that its process is another
one than before, or that it beat too seldom to have lived through the gap. Only what is proven is published,
so `gap_sec` is a lower bound:

- n beats of one process cover n times its pace, plus a tenth; the time left uncovered was silence. The pace
  is the slowest that was measured while the process could be heard, since a service may beat as slowly as its
  timeout allows. If no pace was measured, n beats prove a silence of their time divided by n, and no more.
  Many beats that came somewhat slower than before would look like one silence: less than a quarter of the
  whole time is ignored. Where all the beats were heard in the end, since they had piled up, the longest time
  between two of them counts, by their own `ts`, if it is less.
- The last beat of a process that has ended is known only if it said goodbye, or if `beat:<svc>` still held
  that beat when listening began again.
- While a bus was mute its senders could not beat, and some senders do not count beats that they could not
  send.
- A silence is compared with the timeout that was in force when it began, even if the timeout is shorter now.

A duration is the smaller of those by the listener's clock and by the beats' own `ts`, because a step of one
clock proves nothing. A case is published only once the service was heard for a timeout more: if an instance
from before the gap beats again, the new one was not a successor but a second instance.

The last beats are saved a few at a time. A new instance and a goodbye are saved with the next save; of all
other services the latest beat is saved as often as is useful and as the budget allows. A service whose beat
is not saved for a while costs precision only, if the listener goes away.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import inf
from typing import Final

from marketswarm.beat import Beat, Meaning
from marketswarm.detector.bus import MAX_PER_EVALUATION, WatchedBus
from marketswarm.detector.clock import HeardAt, ListeningClock, Moment
from marketswarm.detector.history import BeatBeforeGap, Case, History, find_longest_silence
from marketswarm.detector.saved import NO_FAILURES, NO_OTHERS, LastBeat, SavedBeat, SavedService
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import Stage, State
from marketswarm.detector.verdict import Verdict
from marketswarm.detector.wheel import TimingWheel

TURNS_TO_CATCH_UP: Final = 1
SAVES_PER_SEC: Final = 1000
"""Keeps a hundred thousand services cheap: each of them is looked at every 100 s then."""


class RestartObserver:
    """Observes the parsed beats and the changes of state of `services`, as their detector reports them.

    A beat that is stored unparsed (see `service.py`) is not reported. `confirm` is `Detector.confirm`.
    """

    def __init__(
        self, services: Mapping[str, WatchedService], confirm: Callable[[WatchedService, float], None]
    ) -> None:
        self._services, self._confirm = services, confirm
        self._cases: dict[ListeningClock, TimingWheel[Case]] = {}  # by the clock of the bus
        self._urgent: dict[str, None] = {}  # services to be saved next
        self._round: Iterator[WatchedService] = iter(())
        self._taken_at = -inf

    # -- what the detector reports

    def roster_changed(self, buses: dict[str, WatchedBus]) -> None:
        """Drop the cases of buses that are no longer listened to."""
        kept = {bus.clock for bus in buses.values()}
        self._cases = {clock: wheel for clock, wheel in self._cases.items() if clock in kept}

    def service_added(self, service: WatchedService, old: WatchedService | None) -> None:
        """Begin a history; under another line of the truth, continue with the pace, the gap and the case."""
        history = History(service.clock.turns)
        if old is not None:
            known: History = old.history
            history.pace_sec = known.pace_sec and max(known.pace_sec, old.rule.interval_sec)
            if service.parsed_at is not None:
                history.change_undecided(allowance=(service.parsed_at, _allowed_sec(old, known)))
            if service.clock is old.clock:
                history.turn = known.turn
                history.change_undecided(before=known.undecided.before, case=known.undecided.case)
            if (case := history.undecided.case) is not None:
                case.service = service
        service.history = history

    def beat_parsed(self, service: WatchedService, beat: Beat, heard: HeardAt) -> None:
        """If the service's last beat is from before a gap, keep it, because the new one will replace it.

        The new beat, which may be a replay, is not recorded yet.
        Almost every service just continues after a gap; of such a one nothing is kept.
        """
        history = self._history_of(service)
        if history.turn == service.clock.turns or history.undecided.before is not None:
            return
        if _goes_on(service, history, beat, heard):
            history.turn = service.clock.turns
        elif (before := _beat_before_gap(service, history)) is not None:
            history.change_undecided(before=before)

    def goodbye_heard(self, service: WatchedService, beat: Beat) -> None:
        """Note the goodbye in the beat before a gap, so that a restart after it counts as planned."""
        history = self._history_of(service)
        before = history.undecided.before
        if before is not None and beat.boot == before.beat.boot:
            said = before.beat._replace(stopped=True)
            history.change_undecided(before=before._replace(beat=said))
        self.save_soon(service.svc)

    def beat_recorded(self, service: WatchedService, beat: Beat, heard: HeardAt) -> None:
        """Compare the first beat after a gap, a live one of a service that is up, with the last before it."""
        history = self._history_of(service)
        if history.undecided.before is None and history.turn == service.clock.turns:
            return
        history.turn = service.clock.turns
        self.drop_disproved_case(service, beat.boot)
        before = history.undecided.before
        if before is None:
            return
        is_old_instance = beat.boot is None or beat.boot in before.instances
        if not service.clock.is_caught_up and is_old_instance:
            # its delay is unknown: messages that piled up in the gap are still being heard
            history.change_undecided(before=before._replace(was_heard_again=True).followed_by(beat))
            service.parse_next()  # each of them counts
            return
        case = _open_case(service, before, beat, heard)
        history.change_undecided(before=None)
        self.save_soon(service.svc)
        # of two gaps in a row the first restart is published, because the second one came of it
        known = history.undecided.case
        if case is not None and (known is None or not known.restarted):
            history.change_undecided(case=case)
            self._cases.setdefault(service.clock, TimingWheel(Case.due)).add(case)

    def service_restored(
        self, service: WatchedService, saved: SavedService, stored: LastBeat | None, now: Moment
    ) -> None:
        """Take the beat that an earlier run saved as the one before the gap in which no healer listened.

        `stored` is the beat under `beat:<svc>`, None if there is none.
        """
        if saved.last_beat is None or service.state is not State.UP:
            return
        before = _beat_before_start(service, saved.last_beat, stored, now)
        # the instance whose ok was published just before the end may have no saved beat yet
        if saved.boot is not None and saved.boot not in before.instances:
            before = before._replace(instances=before.instances | {saved.boot})
        service.history.change_undecided(before=before)
        service.parse_next()

    def lead_taken_over(self, service: WatchedService, published: SavedService, now: Moment) -> None:
        """If the leader before us heard the service in our gap, take its last beat as the one before the gap.

        What happened until then was for that leader to publish. The next beat is compared again.
        """
        saved, history = published.last_beat, self._history_of(service)
        if saved is None or service.state is not State.UP:
            return
        if history.undecided.case is not None:
            last_wall = history.undecided.case.before.beat.wall
        elif history.undecided.before is not None:
            last_wall = history.undecided.before.beat.wall
        elif history.turn != service.clock.turns and service.parsed_at is not None:
            last_wall = service.parsed_at.wall
        else:
            return  # there is no gap that is not decided
        if saved.wall > last_wall:
            history.change_undecided(case=None, before=_beat_before_start(service, saved, None, now))
            service.parse_next()

    def due_verdicts(self, bus: WatchedBus, now: Moment) -> list[Verdict]:
        """Return the verdicts on gaps of a bus's services that may be published now, 4000 at most."""
        wheel, proven = self._cases.get(bus.clock), bus.clock.proven
        found: list[Verdict] = []
        if wheel is None:
            return found
        waiting: list[Case] = []
        while len(found) < MAX_PER_EVALUATION and wheel.next_due() <= proven:
            for case in wheel.pop_due(proven, MAX_PER_EVALUATION):
                service = case.service
                if service.stage is Stage.DROPPED or self._history_of(service).undecided.case is not case:
                    continue
                if service.last_beat is None or service.last_beat.at <= case.at:
                    waiting.append(case)  # it beat once: that may yet become a miss
                    continue
                found.append(case.verdict(now))
                self._history_of(service).change_undecided(case=None)
                self.save_soon(service.svc)
        for case in waiting:
            wheel.add(case)
        return found

    # -- the beats to save

    def save_soon(self, svc: str) -> None:
        """Save the service's last beat with the next save, or delete it if the service is not watched."""
        self._urgent[svc] = None

    def take_unsaved(self, now: float) -> dict[str, SavedBeat | None]:
        """Return the beats to save at `now` (monotonic seconds), None for services to be deleted.

        Call this about once a second. For a beat that could not be saved, call `save_soon`.
        """
        budget = int(min(1.0, now - self._taken_at) * SAVES_PER_SEC)
        if budget < 1:
            return {}
        self._taken_at = now
        found: dict[str, SavedBeat | None] = {}
        for svc in list(islice(self._urgent, budget)):
            del self._urgent[svc]
            service = self._services.get(svc)
            if service is None:
                found[svc] = None
            elif (saved := self._beat_to_save(service, now)) is not None:
                found[svc] = saved
        if not self._urgent:
            self._urgent.clear()  # its table was as large as it ever had to be
        left = budget - len(found)
        some = list(islice(self._round, left))
        if len(some) < left:
            self._round = iter(list(self._services.values()))
        for each in filter(_is_worth_saving, some):
            if (saved := self._beat_to_save(each, now)) is not None:
                found[each.svc] = saved
        return found

    def _beat_to_save(self, service: WatchedService, now: float) -> SavedBeat | None:
        """Return the service's last beat; None if it has none, or a gap before it is not decided yet."""
        self._confirm(service, now)
        history = self._history_of(service)
        heard, boot = service.parsed_at, service.instances.last
        before = history.undecided.before
        if history.undecided.case is not None or (before is not None and before.heard != heard):
            return None
        if heard is None or boot is None:
            return None
        history.note_saved(boot, service.parsed_i, heard.mono)
        return _describe_last_beat(service, history, heard, boot)

    # -- helpers

    def _history_of(self, service: WatchedService) -> History:
        """Return the history. Of a service that is down it has no gap, because the miss is published."""
        history: History = service.history
        if service.state is State.DOWN:
            history.drop_gap(service)
        return history

    def drop_disproved_case(self, service: WatchedService, boot: str | None) -> None:
        """Drop the service's case if a beat of the instance `boot` disproves it.

        An instance from before the gap disproves a restart, and any other instance a silence. Beats that
        piled up disprove nothing, since they come in any order.
        """
        history = self._history_of(service)
        case = history.undecided.case
        if case is None or not service.clock.is_caught_up:
            return
        if boot in case.before.instances if case.restarted else boot != case.boot:
            history.change_undecided(case=None)


def _is_worth_saving(service: WatchedService) -> bool:
    """Return True if the service's last beat is half a timeout later than the saved one."""
    if service.stage is Stage.DROPPED or service.last_beat is None:
        return False
    return bool(service.last_beat.mono - service.history.saved_at >= service.rule.timeout_sec / 2)


def _find_pace(service: WatchedService, pace_sec: float) -> float:
    """Return the longest time between beats that counts as the service's pace; 0 if it was not measured."""
    return pace_sec and max(pace_sec, service.rule.interval_sec)


def _goes_on(service: WatchedService, history: History, beat: Beat, heard: HeardAt) -> bool:
    """Return True if the first beat after a gap is plainly the next one of the process that beat before it.

    Then `_open_case` would find nothing. If it is a replay or no sign of life, if messages that had piled up
    are still being heard, or if an earlier gap is not decided yet, return False.
    """
    last, boot = service.parsed_at, service.instances.last
    if last is None or boot is None or beat.boot != boot or not service.clock.is_caught_up:
        return False
    if beat.meaning is not Meaning.LIFE or service.silence.stopped or service.job is not None:
        return False
    if history.undecided.case is not None or beat.i <= (service.instances.find_i(boot) or 0):
        return False
    sec = min(beat.ts - service.parsed_ts, heard.mono - last.mono)
    silence_sec = find_longest_silence(sec, beat.i - service.parsed_i, _find_pace(service, history.pace_sec))
    return silence_sec < _allowed_sec(service, history)


def _allowed_sec(service: WatchedService, history: History) -> float:
    """Return how long the service may be silent after its last beat, by the truth of then or now.

    The longer timeout counts.
    """
    allowance = history.undecided.allowance
    if allowance is not None and allowance[0] is service.parsed_at:
        return max(service.rule.timeout_sec, allowance[1])
    return service.rule.timeout_sec


def _describe_last_beat(service: WatchedService, history: History, heard: HeardAt, boot: str) -> SavedBeat:
    """Return the service's last beat, of the instance `boot`, as it is saved."""
    others: Mapping[str, int] = NO_OTHERS
    if known := service.other_instances():
        others = {other: service.instances.find_i(other) or 0 for other in known}
    return SavedBeat(
        boot,
        service.parsed_i,
        service.parsed_ts,
        heard.wall,
        service.silence.stopped,
        others,
        history.pace_sec,
        _allowed_sec(service, history),
        {each.via: each.report.heard.wall for each in service.trouble.open} or NO_FAILURES,
        service.host,
    )


def _beat_before_gap(service: WatchedService, history: History) -> BeatBeforeGap | None:
    """Return the service's last beat as the one before a gap; None if it has no `boot`."""
    heard, boot = service.parsed_at, service.instances.last
    if heard is None or boot is None:
        return None
    last = _describe_last_beat(service, history, heard, boot)
    beat = last._replace(pace_sec=_find_pace(service, last.pace_sec))
    return BeatBeforeGap(beat, heard.mono, frozenset(service.instances), last.i, heard)


def _beat_before_start(
    service: WatchedService, saved: SavedBeat, stored: LastBeat | None, now: Moment
) -> BeatBeforeGap:
    """Return the last beat before this healer started: the saved one, or a later one under `beat:<svc>`."""
    instances, turn = frozenset(saved.instances()), service.clock.turns
    beat = saved._replace(pace_sec=_find_pace(service, saved.pace_sec))
    mono = now.mono - (now.wall - saved.wall)
    again = service.instances.last in instances
    before = BeatBeforeGap(beat, mono, instances, saved.i, turn=turn, was_heard_again=again)
    return before if stored is None else _with_stored_beat(before, stored, now)


def _with_stored_beat(before: BeatBeforeGap, stored: LastBeat, now: Moment) -> BeatBeforeGap:
    """Return the beat before a gap, updated by a later beat of the same instance under `beat:<svc>`."""
    beat, age_sec = stored.beat, stored.age_sec
    is_goodbye = beat.meaning is Meaning.GOODBYE
    i = beat.i - is_goodbye  # the key of a goodbye has the age of the beat before it
    if age_sec is None or beat.boot != before.beat.boot or i < before.beat.i:
        return before
    sec = before.seconds_to(beat.ts, now.mono - age_sec)
    return before._replace(
        beat=before.beat._replace(i=i, ts=beat.ts, stopped=before.beat.stopped or is_goodbye),
        mono=now.mono - age_sec,
        is_final=True,
        proven_sec=before.longest_silence(sec, i - before.beat.i),
    )


def _open_case(service: WatchedService, before: BeatBeforeGap, beat: Beat, heard: HeardAt) -> Case | None:
    """Compare the first beat after a gap with the last one before it, and return the case that they prove.

    Return None if they prove no restart, and no silence longer than the timeout.
    """
    clock, timeout_sec = service.clock, max(service.rule.timeout_sec, before.beat.timeout_sec)
    restarted = beat.boot not in before.instances
    if beat.boot is None or (restarted and before.was_heard_again and clock.is_caught_up):
        return None  # it has no boot, or replaced another instance while we listened
    if service.job is not None:
        return None  # each run is another process, and its deadlines say what was missed
    sec = before.seconds_to(beat.ts, heard.mono) - clock.muted_sec_since(before.mono, heard.mono)
    gap_sec = before.proven_sec if before.proven_sec >= timeout_sec else 0.0
    if restarted:
        has_ended = before.is_final and clock.turns - before.turn <= TURNS_TO_CATCH_UP
        if has_ended or (before.beat.stopped and not before.beat.others):
            gap_sec = max(gap_sec, sec / max(1, beat.i))
    elif beat.boot == before.beat.boot:
        silence_sec = before.longest_silence(sec, beat.i - before.beat.i)
        followed = before.followed_by(beat)
        if followed.next_i == beat.i:  # each beat was heard: their own times say how long none was sent
            silence_sec = min(silence_sec, followed.next_sec)
        gap_sec = max(gap_sec, silence_sec)
    if gap_sec >= timeout_sec or (restarted and not before.beat.stopped):
        return Case(service, before, heard.at, beat.boot, beat.i, gap_sec, restarted)
    return None
