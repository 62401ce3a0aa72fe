"""A browser's end of a stream of server-sent events, without the browser."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from support.rig.closes import Closes
from support.rig.process import PLAIN
from support.waiting import PATIENT_SEC, until


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event: its kind, its id (None for a sign of life), its JSON, and when it came (epoch seconds)."""

    kind: str
    id: str | None
    data: Any
    at: float


class EventStream(Closes):
    """`with EventStream(url) as stream:` follows in a thread; `events` are all so far."""

    def __init__(self, url: str, last_id: str | None = None) -> None:
        self.events: list[StreamEvent] = []
        self.status: int | None = None
        self.ended_at: float | None = None
        self._client = httpx.Client(timeout=httpx.Timeout(10, read=60), verify=PLAIN)
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        self._thread = threading.Thread(target=self._follow, args=(url, headers), daemon=True)
        self._thread.start()

    def wait(self, kind: str, within: float = PATIENT_SEC, **data: Any) -> StreamEvent:
        """Return the first event of this kind whose data has these values."""

        def find() -> StreamEvent | None:
            return next(
                (one for one in self.events if one.kind == kind and data.items() <= one.data.items()), None
            )

        found: StreamEvent = until(find, within, lambda: f"{kind} {data} among {self.events[-5:]}")
        return found

    def wait_change(self, svc: str, within: float = PATIENT_SEC, **fields: Any) -> StreamEvent:
        """Return the first event by which these fields of a service changed to these values."""

        def find() -> StreamEvent | None:
            deltas = (one for one in self.events if one.kind == "delta")
            return next(
                (one for one in deltas if fields.items() <= one.data["services"].get(svc, {}).items()), None
            )

        found: StreamEvent = until(find, within, lambda: f"{svc} {fields} among {self.events[-5:]}")
        return found

    @property
    def last_id(self) -> str | None:
        """The id of the latest event that has one."""
        return next((one.id for one in reversed(self.events) if one.id), None)

    def close(self) -> None:
        """End the stream from this side."""
        self._client.close()
        self._thread.join(10)

    def _follow(self, url: str, headers: dict[str, str]) -> None:
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                self.status = response.status_code
                fields: dict[str, str] = {}
                for line in response.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                        continue
                    if "data" in fields:
                        event = StreamEvent(
                            fields.get("event", "message"),
                            fields.get("id"),
                            orjson.loads(fields["data"]),
                            time.time(),
                        )
                        self.events.append(event)
                    fields = {}
        except (httpx.HTTPError, RuntimeError, OSError):
            pass  # the server, or `close`, ended it
        finally:
            self.ended_at = time.time()
