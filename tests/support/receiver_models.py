"""What receivers of messages keep of them, by their own protocols: open alerts, threads, conversations.

A model takes what one channel sends, as its receiver would, and fails where that breaks the protocol.
`Receivers` holds one of each kind, and plays the messages of a `Town` to all of them.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from itertools import count
from typing import Any

import aiosmtplib.email
import httpx
import orjson

from marketswarm.channels import Channel, Message
from marketswarm.channels.alertmanager import Alertmanager
from marketswarm.channels.alertmanager import Options as AlertmanagerOptions
from marketswarm.channels.email import SUBJECT_AT_MOST, compose_mail
from marketswarm.channels.http import Http
from marketswarm.channels.message import encode_message, make_plain_key, parse_message
from marketswarm.channels.pagerduty import Options as PagerDutyOptions
from marketswarm.channels.pagerduty import PagerDuty
from marketswarm.channels.pushover import Options as PushoverOptions
from marketswarm.channels.pushover import Pushover, make_tag
from marketswarm.channels.slack import Options as SlackOptions
from marketswarm.channels.slack import Slack
from marketswarm.channels.telegram import Options as TelegramOptions
from marketswarm.channels.telegram import Telegram
from marketswarm.channels.text import printable_line, truncate
from notifier.router.incident import Incident, parse_incident
from notifier.router.incident_store import INCIDENT_FIELD
from notifier.router.router import NOTICE_FIELD
from support.channel_kinds import URL
from support.chat_schemas import Alertmanager as AlertmanagerDocument
from support.chat_schemas import PagerDutyResolve, PagerDutyTrigger
from support.chat_schemas import Pushover as PushoverMessage
from support.simulation.router import Town

ATEXT = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
DOT_ATOM = rb"%b(?:\.%b)*" % (ATEXT, ATEXT)
MSG_ID = re.compile(rb"<%b@(?:%b|\[[!-Z^-~]*\])>" % (DOT_ATOM, DOT_ATOM))
"""RFC 5322 section 3.6.4, without the obsolete forms."""
PUSHOVER_TOKEN, PUSHOVER_USER = "a" * 30, "u" * 30
ENCODED_WORD = re.compile(rb"=\?[^?\s]+\?[bqBQ]\?[^?\s]*\?=")


class AlertmanagerReceiver:
    """Keeps the groups and the alerts of Alertmanager's webhooks, as their receivers do."""

    def __init__(self) -> None:
        self.groups: dict[str, str] = {}
        self.firing: dict[str, dict[str, str]] = {}  # labels by fingerprint
        self.ids: set[str] = set()

    def take(self, request: httpx.Request) -> httpx.Response:
        AlertmanagerDocument.model_validate_json(request.content)
        found = orjson.loads(request.content)
        assert request.headers["webhook-id"] not in self.ids, "a receiver would drop it as a repeat"
        self.ids.add(request.headers["webhook-id"])
        self.groups[found["groupKey"].removeprefix("marketswarm:")] = found["status"]
        fires = any(alert["status"] == "firing" for alert in found["alerts"])
        assert (found["status"] == "firing") is fires, "a group fires if at least one of its alerts does"
        for alert in found["alerts"]:
            mark, labels = alert["fingerprint"], alert["labels"]
            assert self.firing.get(mark, labels) == labels, "its labels are what an alert is known by"
            if alert["status"] == "firing":
                self.firing[mark] = labels
            else:
                assert alert["endsAt"] >= alert["startsAt"]
                self.firing.pop(mark, None)
        return httpx.Response(200)


class PagerDutyReceiver:
    """Keeps the alerts that are open, by their `dedup_key`."""

    def __init__(self) -> None:
        self.open: set[str] = set()

    def take(self, request: httpx.Request) -> httpx.Response:
        found = orjson.loads(request.content)
        known = {name: value for name, value in found.items() if name != "routing_key"}
        model = PagerDutyTrigger if found["event_action"] == "trigger" else PagerDutyResolve
        model.model_validate_json(orjson.dumps(known))
        assert 0 < len(found["dedup_key"]) <= 255
        (self.open.add if found["event_action"] == "trigger" else self.open.discard)(found["dedup_key"])
        return httpx.Response(202, json={"status": "success"})


class PushoverReceiver:
    """Keeps the tags of the emergencies that ring, and speaks Pushover's API."""

    def __init__(self) -> None:
        self.ringing: set[str] = set()
        self._numbers = count(1)

    def take(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        assert body.pop("token") == PUSHOVER_TOKEN
        answer: dict[str, Any] = {"status": 1, "request": f"r{next(self._numbers)}"}
        _, _, path = request.url.path.partition("/1/")
        if cancelled := re.fullmatch(r"receipts/cancel_by_tag/(\w+)\.json", path):
            assert body == {}
            answer["canceled"] = int(cancelled[1] in self.ringing)
            self.ringing.discard(cancelled[1])
        else:
            assert (path, body.pop("user")) == ("messages.json", PUSHOVER_USER)
            if PushoverMessage.model_validate_json(orjson.dumps(body)).priority == 2:
                self.ringing.add(body["tags"])
                answer["receipt"] = "r" * 30
        return httpx.Response(200, json=answer)


class ChatReceiver:
    """Keeps what Slack or Telegram got: for each message the first of its thread, None if it is that."""

    def __init__(self, find_parent: Callable[[dict[str, Any]], str | None], answer: Callable[[int], Any]):
        self.parents: list[str | None] = []
        self._find_parent, self._answer, self._numbers = find_parent, answer, count(1)

    def take(self, request: httpx.Request) -> httpx.Response:
        self.parents.append(self._find_parent(orjson.loads(request.content)))
        return httpx.Response(200, json=self._answer(next(self._numbers)))


class MailReceiver:
    """Keeps mails by their Message-ID, and reads the raw lines of their headers by RFC 5322 and 2047."""

    def __init__(self) -> None:
        self.answered: dict[bytes, list[bytes]] = {}  # by the id of a mail, those of the mails it answers

    def take(self, raw: bytes, title: str) -> list[bytes]:
        """Take a mail with this title; return the ids of the mails that it answers."""
        head, _, _ = raw.partition(b"\r\n\r\n")
        assert max(map(len, head.split(b"\r\n"))) <= 998
        lines = head.replace(b"\r\n ", b"\n ").split(b"\r\n")
        fields = {
            name.lower(): value.lstrip(b" ") for name, _, value in (line.partition(b":") for line in lines)
        }
        assert len(fields) == len(lines), "a field twice"
        for name in (b"message-id", b"in-reply-to", b"references", b"list-id"):
            assert not ENCODED_WORD.search(fields.get(name, b"")), f"{name!r} has encoded words"
        for word in ENCODED_WORD.findall(head):
            assert len(word) <= 75
        (own,) = fields[b"message-id"].split()
        assert MSG_ID.fullmatch(own), own
        answered = fields.get(b"in-reply-to", b"").split()
        assert all(map(MSG_ID.fullmatch, answered))
        assert fields.get(b"references", b"").split() in ([], answered)
        assert re.fullmatch(rb"MarketSwarm[\n ]+<%b>" % DOT_ATOM, fields[b"list-id"])
        subject = str(make_header(decode_header(message_from_bytes(raw)["Subject"])))
        assert " ".join(subject.split()) == " ".join(title.split())
        self.answered[own] = answered
        return answered


class Receivers:
    """One receiver of each kind that keeps something, behind the real channels of the product."""

    def __init__(self, respx_mock: Any, name: str = "one", sender: str = "Swarm <swarm@example.org>") -> None:
        self.name, self.sender = name, sender
        self.alertmanager, self.pagerduty, self.mail = (
            AlertmanagerReceiver(),
            PagerDutyReceiver(),
            MailReceiver(),
        )
        self.pushover = PushoverReceiver()
        self.slack = ChatReceiver(
            lambda body: body.get("thread_ts"), lambda n: {"ok": True, "ts": f"1.{n}", "channel": "C1"}
        )
        self.telegram = ChatReceiver(
            lambda body: str(body["reply_parameters"]["message_id"]) if "reply_parameters" in body else None,
            lambda n: {"ok": True, "result": {"message_id": n}},
        )
        self._anchors: dict[tuple[str, str], str] = {}
        self._first: dict[str, str] = {}  # the subject of each thread's first mail is its Message-ID
        self._seen = 0
        hosts = {"am": self.alertmanager, "pd": self.pagerduty, "slack": self.slack, "tg": self.telegram}
        hosts["po"] = self.pushover
        for host, model in hosts.items():
            respx_mock.post(host=f"{name}-{host}.example.org").mock(side_effect=model.take)
        http = Http()
        self._channels: dict[str, Channel] = {
            "am": Alertmanager("am", AlertmanagerOptions(url=self._url("am")), http),
            "pd": PagerDuty("pd", PagerDutyOptions(routing_key="k" * 32, url=self._url("pd")), http),
            "po": Pushover(
                "po", PushoverOptions(token=PUSHOVER_TOKEN, user=PUSHOVER_USER, url=self._url("po")), http
            ),
            "slack": Slack(
                "slack",
                SlackOptions.model_validate({"token": "xoxb-1", "channel": "C1"}),
                http,
                api=self._url("slack"),
            ),
            "tg": Telegram(
                "tg",
                TelegramOptions.model_validate({"token": "1:a", "chat": "-1", "url": self._url("tg")}),
                http,
            ),
        }

    def _url(self, host: str) -> str:
        return URL.replace("receiver.example.org", f"{self.name}-{host}.example.org")

    async def follow(self, town: Town) -> None:
        """Send the messages that the town made since, and hold what each receiver has against what is so."""
        for _, message, channels in town.messages[self._seen :]:
            if self.name in channels:
                stored = parse_message(encode_message(message))  # as it comes out of the outbox
                assert stored == message
                await self._send(stored)
        self._seen = len(town.messages)

    async def _send(self, message: Message) -> None:
        thread = message.thread or message.id
        for name, channel in self._channels.items():
            receipt = await channel.send(message, self._anchors.get((thread, name)))
            if receipt.anchor is not None:
                self._anchors.setdefault((thread, name), receipt.anchor)
        for name, chat in (("slack", self.slack), ("tg", self.telegram)):
            is_first = self._anchors[thread, name] in (f"1.{len(chat.parents)}", str(len(chat.parents)))
            assert chat.parents[-1] == (None if is_first else self._anchors[thread, name])
        mail = compose_mail(message, self.sender, "ops@example.org", datetime.now(UTC))
        answered = self.mail.take(
            aiosmtplib.email.flatten_message(mail), truncate(printable_line(message.title), SUBJECT_AT_MOST)
        )
        known = {ident.partition(b"@")[0][1:] for ident in self.mail.answered}
        self._first.setdefault(thread, message.id)
        continues = {each.thread for each in message.states if each.thread} - {message.id}
        assert len(answered) == min(10, len(continues))
        if self.name == "one":  # which gets every message, so each mail that is answered was sent
            assert {ident.partition(b"@")[0][1:] for ident in answered} <= known

    def check(self, town: Town) -> None:
        """Hold what is open at the receivers against what people were told of and is not over.

        While a message waits for others to share it, there is nothing to hold.
        """
        if any(name.startswith(NOTICE_FIELD) for name in town.kept):
            return
        incidents = list_incidents(town)
        flapping = {each.key: each.flap_thread for each in incidents if each.flap_thread}
        told = {each.svc: each for each in incidents if each.is_notified and not each.flap_thread}
        threads = {*flapping.values(), *(each.thread for each in told.values())}
        alerts = {*(("flapping", key) for key in flapping)}
        alerts |= {(each.kind.partition("_")[0], svc) for svc, each in told.items()}
        firing = {(each["alertname"], each["svc"]) for each in self.alertmanager.firing.values()}
        groups = {key for key, status in self.alertmanager.groups.items() if status == "firing"}
        open_keys = set(map(make_plain_key, threads))
        assert self.pagerduty.open == open_keys, f"{self.pagerduty.open} are open, not {open_keys}"
        critical = {each.thread for each in told.values() if each.severity == "critical"}
        assert set(map(make_tag, critical)) <= self.pushover.ringing <= set(map(make_tag, threads))
        assert firing == alerts, f"{firing} fire, not {alerts}"
        assert groups == threads, f"{groups} fire, not {threads}"


def list_incidents(town: Town) -> list[Incident]:
    found = [parse_incident(raw) for name, raw in town.kept.items() if name.startswith(INCIDENT_FIELD)]
    return [each for each in found if each is not None]
