"""Models of the payloads that receivers document; they refuse everything else.

Characters are counted as UTF-16 units, which is never fewer than characters. Limits that no page states, and
which senders have found, are marked so.
"""

import json
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def at_most(units: int) -> AfterValidator:
    def check(text: str) -> str:
        assert len(text.encode("utf-16-le")) // 2 <= units, f"longer than {units}"
        return text

    return AfterValidator(check)


def octets(most: int) -> AfterValidator:
    def check(text: str) -> str:
        assert len(text.encode()) <= most, f"longer than {most} bytes"
        return text

    return AfterValidator(check)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SlackText(Strict):
    type: Literal["plain_text"]
    text: Annotated[str, Field(min_length=1), at_most(3000)]
    emoji: Literal[False]


class SlackSection(Strict):
    type: Literal["section"]
    text: SlackText


def web_address(most: int) -> Any:
    """A URL of HTTP with printable ASCII alone, as every receiver wants it."""
    return Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=most)]


class SlackLabel(SlackText):
    text: Annotated[str, Field(min_length=1), at_most(75)]


class SlackButton(Strict):
    """docs.slack.dev/reference/block-kit/block-elements/button-element."""

    type: Literal["button"]
    text: SlackLabel
    url: web_address(3000)


class SlackActions(Strict):
    type: Literal["actions"]
    elements: Annotated[list[SlackButton], Field(min_length=1, max_length=25)]


class SlackAttachment(Strict):
    color: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]
    blocks: Annotated[list[SlackSection | SlackActions], Field(min_length=1, max_length=50)]


class Slack(Strict):
    """docs.slack.dev/reference: block-kit, messaging/payload, methods/chat.postMessage."""

    text: Annotated[str, Field(min_length=1), at_most(4000)]
    mrkdwn: Literal[False]
    unfurl_links: Literal[False]
    unfurl_media: Literal[False]
    attachments: Annotated[list[SlackAttachment], Field(max_length=100)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        blocks = [block for attachment in self.attachments for block in attachment.blocks]
        assert len(blocks) <= 50
        # found by senders: between 11,000 and 13,300 characters are `msg_blocks_too_long`
        assert sum(len(block.text.text) for block in blocks if isinstance(block, SlackSection)) <= 10_000
        return self


class SlackPost(Slack):
    channel: str
    thread_ts: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None
    reply_broadcast: bool = False


class DiscordEmbed(Strict):
    title: Annotated[str, at_most(256)]
    description: Annotated[str, at_most(4096)]
    color: Annotated[int, Field(ge=0, le=0xFFFFFF)]
    timestamp: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)$")]


class DiscordMentions(Strict):
    parse: Annotated[list[str], Field(max_length=0)]


class Discord(Strict):
    """docs.discord.com/developers/resources/webhook#execute-webhook and /message#embed-limits."""

    embeds: Annotated[list[DiscordEmbed], Field(min_length=1, max_length=10)]
    allowed_mentions: DiscordMentions

    @model_validator(mode="after")
    def _whole(self) -> Self:
        assert sum(len(embed.title) + len(embed.description) for embed in self.embeds) <= 6000
        return self


class TeamsRun(Strict):
    type: Literal["TextRun"]
    text: str
    weight: Literal["Bolder"] | None = None
    size: Literal["Medium"] | None = None
    color: Literal["Good", "Accent", "Warning", "Attention"] | None = None


class TeamsBlock(Strict):
    type: Literal["RichTextBlock"]
    spacing: Literal["None", "Small"]
    inlines: list[TeamsRun]


class TeamsAction(Strict):
    """adaptivecards.io/explorer/Action.OpenUrl.html; Teams shows six of them."""

    type: Literal["Action.OpenUrl"]
    title: Annotated[str, Field(min_length=1)]
    url: web_address(2048)


class TeamsCard(Strict):
    schema_: Annotated[str, Field(alias="$schema")]
    type: Literal["AdaptiveCard"]
    version: Literal["1.2"]
    msteams: dict[Literal["width"], Literal["Full"]]
    body: Annotated[list[TeamsBlock], Field(min_length=1)]
    actions: Annotated[list[TeamsAction], Field(min_length=1, max_length=6)] = []


class TeamsAttachment(Strict):
    contentType: Literal["application/vnd.microsoft.card.adaptive"]  # noqa: N815 - its name
    contentUrl: None  # noqa: N815 - its name
    content: TeamsCard


class Teams(Strict):
    """learn.microsoft.com/connectors/teams (request body), adaptivecards.io/explorer."""

    type: Literal["message"]
    attachments: Annotated[list[TeamsAttachment], Field(min_length=1, max_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, found: Any) -> Any:
        # found by senders: 24,453 bytes were counted as 28,897, since the card travels inside a string
        assert len(json.dumps(json.dumps(found))) <= 28_672
        return found


class NtfyView(Strict):
    action: Literal["view"]
    label: Annotated[str, Field(min_length=1)]
    url: web_address(2048)
    clear: bool


class NtfyHttp(NtfyView):
    action: Literal["http"]
    method: Literal["POST"]


class Ntfy(Strict):
    """docs.ntfy.sh/publish/#publish-as-json and the server's own limits."""

    topic: Annotated[str, Field(pattern=r"^[-_A-Za-z0-9]{1,64}$")]
    title: str
    message: Annotated[str, octets(4095)]
    priority: Annotated[int, Field(ge=1, le=5)]
    tags: list[str]
    click: web_address(2048) | None = None
    actions: Annotated[list[NtfyView | NtfyHttp], Field(min_length=1, max_length=3)] = []

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, found: Any) -> Any:
        # the server reads twice 4,096 bytes of JSON
        assert len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()) <= 8192
        # a push of Firebase carries 4,000 bytes of what people see and tap
        pushed = {name: found[name] for name in ("message", "click", "actions") if name in found}
        assert len(json.dumps(pushed, ensure_ascii=False, separators=(",", ":")).encode()) <= 4000
        return found


class TelegramPreview(Strict):
    is_disabled: Literal[True]


class TelegramReply(Strict):
    message_id: int
    allow_sending_without_reply: Literal[True]


def telegram_address(url: str) -> str:
    assert "." in (urlsplit(url).hostname or ""), "the button's URL is invalid: Wrong HTTP URL"
    return url


class TelegramButton(Strict):
    text: Annotated[str, Field(min_length=1)]
    url: Annotated[web_address(2048), AfterValidator(telegram_address)]


class TelegramKeyboard(Strict):
    inline_keyboard: Annotated[list[list[TelegramButton]], Field(min_length=1, max_length=100)]


class Telegram(Strict):
    """core.telegram.org/bots/api#sendmessage."""

    chat_id: int | str
    text: Annotated[str, Field(min_length=1), at_most(4096)]
    parse_mode: Literal["HTML"]
    link_preview_options: TelegramPreview
    reply_parameters: TelegramReply | None = None
    reply_markup: TelegramKeyboard | None = None


def not_blank(text: str) -> str:
    assert text.strip(), "message cannot be blank"
    return text


class Pushover(Strict):
    """pushover.net/api, without the token and the receiver."""

    title: Annotated[str, Field(min_length=1), at_most(250)]
    message: Annotated[str, at_most(1024), AfterValidator(not_blank)]
    html: Literal[1]
    priority: Literal[-2, -1, 0, 1, 2]
    retry: Annotated[int, Field(ge=30)] | None = None
    expire: Annotated[int, Field(gt=0, le=10_800)] | None = None
    tags: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,40}$")] | None = None  # no page states a limit
    timestamp: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    url: web_address(512) | None = None
    url_title: Annotated[str, Field(min_length=1), at_most(100)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        is_emergency = self.priority == 2
        assert all((each is not None) is is_emergency for each in (self.retry, self.expire, self.tags))
        assert self.url or not self.url_title
        return self


TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"


def printable(text: str) -> str:
    assert text.isprintable()
    return text


def line(most: int) -> Any:
    return Annotated[str, Field(min_length=1, max_length=most), AfterValidator(printable)]


class PagerDutyPayload(Strict):
    summary: line(1024)
    timestamp: line(30)
    severity: Literal["critical", "error", "warning", "info"]
    source: line(255)
    component: line(255)
    class_: Annotated[line(255), Field(alias="class")]
    custom_details: dict[str, Any]


class PagerDutyLink(Strict):
    href: web_address(2048)
    text: line(100)


class PagerDutyTrigger(Strict):
    """developer.pagerduty.com: Events API v2, without the routing key."""

    event_action: Literal["trigger"]
    dedup_key: line(255)
    client: str
    client_url: web_address(2048) | None = None
    links: Annotated[list[PagerDutyLink], Field(min_length=1)] = []
    payload: PagerDutyPayload

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, found: Any) -> Any:
        assert len(json.dumps(found, ensure_ascii=False).encode()) <= 511 * 1024  # 512 with the routing key
        return found


class PagerDutyResolve(Strict):
    event_action: Literal["resolve"]
    dedup_key: line(255)


class Alert(Strict):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: Annotated[str, Field(pattern=TIME)]  # noqa: N815 - its name
    endsAt: Annotated[str, Field(pattern=TIME)]  # noqa: N815 - its name
    generatorURL: str  # noqa: N815 - its name
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        assert (self.endsAt == "0001-01-01T00:00:00Z") == (self.status == "firing")
        return self


class Alertmanager(Strict):
    """prometheus.io/docs/alerting/latest/configuration/#webhook_config."""

    version: Literal["4"]
    groupKey: str  # noqa: N815 - its name
    truncatedAlerts: int  # noqa: N815 - its name
    status: Literal["firing", "resolved"]
    receiver: str
    groupLabels: dict[str, str]  # noqa: N815 - its name
    commonLabels: dict[str, str]  # noqa: N815 - its name
    commonAnnotations: dict[str, str]  # noqa: N815 - its name
    externalURL: str  # noqa: N815 - its name
    alerts: Annotated[list[Alert], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for alert in self.alerts:
            assert self.commonLabels.items() <= alert.labels.items()
            assert self.commonAnnotations.items() <= alert.annotations.items()
            assert self.groupLabels.items() <= alert.labels.items()
        assert len({alert.fingerprint for alert in self.alerts}) == len(self.alerts)
        return self


class WebhookLink(Strict):
    label: str
    url: web_address(2048)
    action: Literal["", "approve", "ack", "quiet"]


class WebhookData(Strict):
    title: str
    text: str
    severity: Literal["critical", "warning", "info"]
    late: bool
    events: list[dict[str, Any]]
    what: str
    lines: list[str]
    thread: str
    links: Annotated[list[WebhookLink], Field(min_length=1)] = []


class Webhook(Strict):
    """The contract's own, in the frame of www.standardwebhooks.com."""

    type: Literal["marketswarm.alert"]
    timestamp: Annotated[str, Field(pattern=TIME)]
    data: WebhookData
