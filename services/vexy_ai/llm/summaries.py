"""The summaries of some stories: asked for one after the other, while it goes well and the budget lasts."""

import time
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from marketswarm.channels import SendError
from marketswarm.channels.http import ANSWER_AT_MOST, Http, host_of, refusal_of
from services.vexy_ai.digest import Plain, Story
from services.vexy_ai.llm.answer import Unfit, summary_in
from services.vexy_ai.llm.breaker import Breaker
from services.vexy_ai.llm.question import question
from services.vexy_ai.queue import Shelf
from services.vexy_ai.section import Llm
from services.vexy_ai.tally import Tally
from services.vexy_ai.windows import spend

PATH: Final = "/chat/completions"


class Summaries:
    """Asks the model at `url`. What goes wrong is a word in the digest, never an error."""

    def __init__(self, url: str, key: SecretStr | None, tally: Tally, log: Any) -> None:
        self.where = host_of(url)
        base = url.rstrip("/")
        self._url = base if base.endswith(PATH) else base + PATH
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._tally, self._log = tally, log
        self._http: tuple[float, Http] | None = None
        self.breaker = Breaker()

    async def of(
        self, stories: Sequence[Story], shelf: Shelf, wishes: Llm
    ) -> tuple[list[str | None], Plain | None]:
        """A summary for each of the first stories, or None; and why not for all. May raise BusError."""
        summaries: list[str | None] = []
        why = None
        for story in stories[: wishes.stories]:
            pause_sec = self.breaker.open_sec(time.monotonic())
            if pause_sec > 0:
                why = f"the model is left alone for {pause_sec:.0f} s ({self.breaker.reason})"
                break
            if not await spend(shelf, wishes.requests_per_hour):
                why = f"{wishes.requests_per_hour} requests in this hour were made"
                break
            found = await self._asked(story, wishes)
            summaries.append(found)
            if found is None:
                why = f"the model did not answer ({self.breaker.reason})"
        self._tally.paused = self.breaker.open_sec(time.monotonic()) > 0
        made = sum(each is not None for each in summaries)
        return summaries, Plain(made, why) if wishes.stories else None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http[1].aclose()

    async def _asked(self, story: Story, wishes: Llm) -> str | None:
        try:
            found = await self._summary(story, wishes)
        except SendError as error:
            self._failed(error.reason, after_sec=error.retry_after_sec, lasting=error.permanent)
        except Unfit as error:
            self._failed(str(error))
        else:
            self.breaker.worked()
            self._tally.asked["ok"] += 1
            return found
        return None

    async def _summary(self, story: Story, wishes: Llm) -> str:
        http = await self._client(wishes.timeout_sec)
        body = orjson.dumps(question(wishes.model, story))
        answer = await http.exchange("POST", self._url, body=body, headers=self._headers)
        if answer.status != 200:
            raise refusal_of(answer)
        if len(answer.body) >= ANSWER_AT_MOST:
            raise Unfit("too_long")
        return summary_in(answer.body)

    def _failed(self, reason: str, *, after_sec: float | None = None, lasting: bool = False) -> None:
        self._tally.asked[reason] += 1
        self._log.warning("llm.failed", where=self.where, reason=reason)
        self.breaker.failed(reason, time.monotonic(), after_sec=after_sec, lasting=lasting)

    async def _client(self, timeout_sec: float) -> Http:
        if self._http is None or self._http[0] != timeout_sec:
            await self.aclose()
            self._http = timeout_sec, Http(within_sec=timeout_sec)
        return self._http[1]
