"""Ask an OpenAI-compatible endpoint, which is not trusted: answers are bounded, and parsed by a schema."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from marketswarm.net.retry import Backoff

if TYPE_CHECKING:
    from marketswarm.net.address_guard import AddressGuard
    from marketswarm.net.http import HttpResponse

CHAT_PATH: Final = "/chat/completions"
MAX_FAILURES: Final = 3
BACKOFF: Final = Backoff(first_sec=60.0, longest_sec=3600.0)
_FENCE: Final = re.compile(r"```(?:json)?(.*)```", re.DOTALL)

Spend = Callable[[], Awaitable[bool]]
"""Take one request from a budget that processes share; False if nothing is left."""
T = TypeVar("T", bound=BaseModel)


class BadAnswerError(Exception):
    """An answer can't be used; `str()` is the reason in one word."""


class ChatStatusError(Exception):
    """The endpoint answered with another status than 200."""

    def __init__(self, response: "HttpResponse") -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class BudgetSpentError(Exception):
    """Nothing is left of the budget, so nothing was asked."""


class AnswerPart(BaseModel):
    """Accept unknown fields in a part of an answer, and convert no types."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True)


class _Message(AnswerPart):
    content: Annotated[str, Field(min_length=1, max_length=20_000)]


class _Choice(AnswerPart):
    message: _Message


class _Completion(AnswerPart):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=20)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion:
    """Hold what a model is asked: an instruction of ours, and data that anyone may have written."""

    model: str | None
    instruction: str
    data: str
    max_tokens: int | None = None

    def encode(self) -> bytes:
        """Return the body of the request; the answer is to be a JSON object."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": self.instruction},
                {"role": "user", "content": self.data},
            ],
            "temperature": 0,
        }
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return orjson.dumps(body | {"response_format": {"type": "json_object"}})


class ChatClient:
    """Ask the endpoint at `url`, with connections that stay until `aclose`.

    `agent` is for the header User-Agent. Of a response, `max_bytes` are read at most. A `guard` is for a URL
    that others choose: it keeps a host's name from leading to inside addresses.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr | None,
        agent: str = "",
        *,
        max_bytes: int,
        guard: "AddressGuard | None" = None,
    ) -> None:
        self._url, self._max_bytes = make_chat_url(url), max_bytes
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        # late: who only parses with this module loads no HTTP client
        from marketswarm.net.http import HttpClient  # noqa: PLC0415 - see above

        self._http = HttpClient(agent, guard=guard)

    async def ask(self, question: ChatQuestion, within_sec: float, spend: Spend | None = None) -> str:
        """Return the text of the answer. Spends one request of the budget, if there is one.

        Raises BudgetSpentError, HttpError, ChatStatusError or BadAnswerError, and what `spend` raises.
        """
        if spend is not None and not await spend():
            raise BudgetSpentError
        answer = await self._http.fetch(
            "POST",
            self._url,
            within_sec=within_sec,
            max_bytes=self._max_bytes,
            headers=self._headers,
            body=question.encode(),
            body_of={200},
            own_url=self._url,
        )
        if answer.status != 200:
            raise ChatStatusError(answer)
        return parse_content(answer.body)

    async def aclose(self) -> None:
        await self._http.aclose()


def make_chat_url(base: str) -> str:
    """Return the URL for questions; `base` is that URL, or ends in `/v1` before the path."""
    base = base.rstrip("/")
    return base if base.endswith(CHAT_PATH) else base + CHAT_PATH


def parse_content(body: bytes) -> str:
    """Return the text of a completion, without a fence of Markdown around it. Raises BadAnswerError."""
    content = parse_json(body, _Completion).choices[0].message.content
    fenced = _FENCE.fullmatch(content.strip())
    return fenced[1].strip() if fenced else content


def parse_json(text: str | bytes, schema: type[T], *, no_json: str = "garbage") -> T:
    """Return the object in a JSON text. Raise BadAnswerError: `schema`, or `no_json` if it is not JSON."""
    try:
        return schema.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise BadAnswerError(no_json) from None
    except ValidationError:
        raise BadAnswerError("schema") from None


class ModelBreaker:
    """Block requests for a while after three failures in a row, or after one lasting failure.

    The first pause is BACKOFF.first_sec; each further failure lengthens it up to BACKOFF.longest_sec.
    `reason` is the reason of the last failure, None after a success.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._failures = self._pauses = 0
        self._until = 0.0

    def open_sec(self, now: float) -> float:
        return max(0.0, self._until - now)

    def record_success(self) -> None:
        self._failures = self._pauses = 0
        self.reason = None

    def record_failure(
        self, reason: str, now: float, *, after_sec: float | None = None, lasting: bool = False
    ) -> None:
        """Count a failure at `now`, and block requests if it is the third in a row.

        Block them also after a `lasting` failure, which an early retry would repeat. `after_sec` is the pause
        that the endpoint asks for.
        """
        self._failures += 1
        self.reason = reason
        # after a pause a single request is made: if it fails, the next pause begins at once
        if lasting or self._pauses or self._failures >= MAX_FAILURES:
            self._pauses += 1
            self._until = now + BACKOFF.pause_sec(self._pauses)
        if after_sec is not None:
            self._until = max(self._until, now + min(after_sec, BACKOFF.longest_sec))
