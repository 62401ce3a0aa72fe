"""Ask an endpoint outside within its limits and by its breaker, which all instances share on the bus."""

import math
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.circuit_breaker import BreakerReading, BreakerState, CircuitBreaker
from marketswarm.bus.rate_limiter import HourlyBudget, SharedRateLimiter
from marketswarm.keys import voter_account_key, voter_breaker_key, voter_budget_key
from services.signals.ask.calls import CallFailedError
from services.signals.ask.endpoints import EndpointSettings
from services.signals.ask.metrics import AskMetrics
from services.signals.consensus.consensus import Abstention

LOG_EVERY_SEC: Final = 60.0
log = logs.get("signals")


class AskedEndpoint:
    """Hold the limits and the breaker of who is asked at a URL, and whether it fails.

    Args:
        name: of the voter, or WORDING: keys on the bus, metrics and lines of the log have it.
    """

    def __init__(self, bus: Bus, name: str, settings: EndpointSettings, metrics: AskMetrics) -> None:
        self.name, self.settings, self._metrics = name, settings, metrics
        self.in_flight = 0
        """The questions that wait for an answer; who sends them counts them."""
        self._breaker = CircuitBreaker(bus, voter_breaker_key(name, settings.endpoint))
        self._limiter = SharedRateLimiter(bus, voter_account_key(name, settings.endpoint))
        self._budget = HourlyBudget(bus, voter_budget_key(name))
        self._is_failing = False
        self._logged_at = -math.inf

    @property
    def room(self) -> int:
        """How many questions may be sent in one cycle, beside those that wait for an answer."""
        return max(0, min(self.settings.calls_per_cycle, self.settings.at_once - self.in_flight))

    @property
    def _windows(self) -> list[tuple[int, int]]:
        return [(60, self.settings.calls_per_minute)]

    async def ask_permission(self) -> tuple[Abstention | None, BreakerReading]:
        """Spend a call of the limits; return why there is none, and what the breaker says."""
        reading = BreakerReading(self._metrics.breakers.get(self.name, BreakerState.CLOSED))
        try:
            reading = await self._breaker.ask()
            self._metrics.breakers[self.name] = reading.state
            if reading.refusal:
                self._metrics.call_errors_total[self.name, reading.refusal] += 1
                return Abstention.FAILED, reading
            if await self._limiter.take(None, self._windows):
                return Abstention.LIMITED, reading
            if not await self._budget.spend(self.settings.calls_per_hour):
                return Abstention.LIMITED, reading
        except BusError as error:
            self._metrics.call_errors_total[self.name, f"bus_{error.reason}"] += 1
            return Abstention.FAILED, reading
        return None, reading

    async def settle(self, pause_sec: float | None, *, has_failed: bool | None, is_trial: bool) -> None:
        """Note how a call went: in the limiter if a pause is wanted, otherwise in the breaker.

        Raises BusError. None for `has_failed` says nothing of who was asked: this process failed.
        """
        if has_failed is None:
            return
        if pause_sec is not None:
            await self._limiter.block(None, pause_sec, self._windows)
        elif has_failed:
            self._metrics.breakers[self.name] = await self._breaker.record_failure(is_trial=is_trial)
        else:
            await self._breaker.record_success()
            self._metrics.breakers[self.name] = BreakerState.CLOSED

    def log_change(self, failure: str, now: float) -> None:
        """Log the first failure, at most once in LOG_EVERY_SEC, and the first answer after that.

        `now` is the monotonic time; an empty `failure` is an answer.
        """
        if not failure and self._is_failing:
            self._is_failing = False
            log.info("voter.recovered", voter=self.name)
        elif failure and not self._is_failing and now - self._logged_at >= LOG_EVERY_SEC:
            self._is_failing, self._logged_at = True, now
            log.warning("voter.failed", voter=self.name, reason=failure)


def judge_failure(error: CallFailedError) -> tuple[Abstention, bool | None]:
    """Return what a call that failed comes to, and whether it counts as a failure of who was asked."""
    if error.pause_sec is not None:
        return Abstention.LIMITED, False
    return Abstention.FAILED, None if error.is_ours else True
