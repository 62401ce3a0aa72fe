"""What takes Alertmanager's webhooks takes ours: an existing pipeline goes on from there.

Not here: Alertmanager itself, which takes another form; and what is in the JSON (`alerts.py`).
"""

from pydantic import BaseModel, ConfigDict, Field

from marketswarm.channels.alerts import payload
from marketswarm.channels.http import Http, host_of
from marketswarm.channels.message import Channel, Message, Receipt
from marketswarm.settings import HttpUrl


class Options(BaseModel):
    """Where their webhook would go."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl = Field(repr=False)


class Alertmanager:
    """POSTs each message as one group of alerts. A thread's anchor is the severity that its alerts have."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        self.name = name
        self.where = host_of(options.url)
        self._url = options.url
        self._http = http or Http()
        self.within_sec = self._http.within_sec

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """See `Channel`."""
        body = payload(message, self.name, anchor)
        headers = {"content-type": "application/json", "webhook-id": message.key}
        answer = await self._http.request("POST", self._url, body=body, headers=headers)
        return Receipt(str(answer.status), anchor or message.severity)

    async def aclose(self) -> None:
        """See `Channel`."""
        await self._http.aclose()


def opened(name: str, options: Options) -> Channel:
    """The channel; nothing is connected yet."""
    return Alertmanager(name, options)
