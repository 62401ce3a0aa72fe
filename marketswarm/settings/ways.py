"""What the environment says of the ways to reach people. What each means is its channel's business."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from marketswarm.settings.environment import Common
from marketswarm.settings.values import Addresses, HttpUrl, Name, Port, Signing, Tls, Token

_WITH: Final = {
    "smtp_from": "smtp_host",
    "smtp_to": "smtp_host",
    "slack_channel": "slack_token",
    "telegram_chat": "telegram_token",
}
"""What is of no use without the other, and the other not without it: by name of the later field."""


def _with(value: Any, info: ValidationInfo) -> Any:
    other = _WITH[info.field_name or ""]
    if value is None and info.data.get(other):
        raise ValueError(f"is needed with {other.upper()}")
    return value


class ChannelSettings(Common):
    """The ways to reach people. One without a URL, a host or a token is not there."""

    webhook_url: HttpUrl | None = Field(default=None, repr=False)
    webhook_secret: Signing | None = None
    smtp_host: Name | None = None
    smtp_port: Port | None = None  # default: what goes with `smtp_tls`
    smtp_user: Name | None = None
    smtp_password: SecretStr | None = None
    smtp_from: Annotated[Addresses | None, AfterValidator(_with)] = Field(None, validate_default=True)
    smtp_to: Annotated[Addresses | None, AfterValidator(_with)] = Field(None, validate_default=True)
    smtp_tls: Tls = "starttls"
    slack_token: Token | None = None
    slack_channel: Annotated[Name | None, AfterValidator(_with)] = Field(None, validate_default=True)
    pagerduty_routing_key: Token | None = None
    alertmanager_url: HttpUrl | None = Field(default=None, repr=False)
    ntfy_url: HttpUrl | None = Field(default=None, repr=False)  # with the topic
    ntfy_token: Token | None = None
    telegram_token: Token | None = None
    telegram_chat: Annotated[Name | None, AfterValidator(_with)] = Field(None, validate_default=True)
    notify_exec: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)
    apprise_urls: SecretStr | None = None
