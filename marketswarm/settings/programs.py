"""The settings of single programs, and of parts that several of them have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from marketswarm.settings import (
    CommonSettings,
    HttpUrl,
    Key,
    MailAddresses,
    Name,
    Port,
    PublicUrl,
    Seconds,
    SigningSecret,
    Tls,
    Token,
)

_REQUIRED_BY: Final = {
    "smtp_from": "smtp_host",
    "smtp_to": "smtp_host",
    "slack_channel": "slack_token",
    "telegram_chat": "telegram_token",
    "pushover_user": "pushover_token",
    "board_public_url": "approval_link_key",
}
"""A field that is required, and the field that requires it, which is declared before it."""


def _require_if_used(value: Any, info: ValidationInfo) -> Any:
    other = _REQUIRED_BY[info.field_name or ""]
    if value is None and info.data.get(other):
        raise ValueError(f"is needed with {other.upper()}")
    return value


class TracingSettings(CommonSettings):
    """Settings of traces, in the standard variables of OpenTelemetry; its SDK reads further ones itself."""

    otel_exporter_otlp_endpoint: HttpUrl | None = Field(default=None, repr=False)  # default: no traces
    otel_exporter_otlp_traces_endpoint: HttpUrl | None = Field(default=None, repr=False)  # with the path
    otel_exporter_otlp_headers: SecretStr | None = None
    otel_sdk_disabled: bool = False


class ChannelSettings(CommonSettings):
    """Settings of the channels that send messages to people.

    A channel without a URL, a host or a token is off.
    """

    webhook_url: HttpUrl | None = Field(default=None, repr=False)
    webhook_secret: SigningSecret | None = None
    smtp_host: Name | None = None
    smtp_port: Port | None = None  # default: the usual port for `smtp_tls`
    smtp_user: Name | None = None
    smtp_password: SecretStr | None = None
    smtp_from: Annotated[MailAddresses | None, AfterValidator(_require_if_used)] = None
    smtp_to: Annotated[MailAddresses | None, AfterValidator(_require_if_used)] = None
    smtp_tls: Tls = "starttls"
    slack_token: Token | None = None
    slack_channel: Annotated[Name | None, AfterValidator(_require_if_used)] = None
    pagerduty_routing_key: Token | None = None
    alertmanager_url: HttpUrl | None = Field(default=None, repr=False)
    ntfy_url: HttpUrl | None = Field(default=None, repr=False)  # with the topic
    ntfy_token: Token | None = None
    telegram_token: Token | None = None
    telegram_chat: Annotated[Name | None, AfterValidator(_require_if_used)] = None
    pushover_token: Token | None = None
    pushover_user: Annotated[Token | None, AfterValidator(_require_if_used)] = None
    notify_exec: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)
    apprise_urls: SecretStr | None = None


class MonitorSettings(CommonSettings):
    """Settings that must be the same for the healer and the sentinel.

    `None` means the truth's value, otherwise the default.
    """

    alert_channel: Name | None = None
    hb_interval_sec: Seconds | None = None
    healer_heartbeat_channel: Name | None = None
    # what `marketswarm up` starts now, separated by commas, and until when that may take
    starting_services: Annotated[str, Field(min_length=1)] | None = None
    starting_until: Seconds | None = None


class AccessSettings(MonitorSettings):
    """Further settings of `bootstrap.access`, which makes users and passwords."""

    access_dir: Path = Path("/access")
    default_user: Literal["on", "off"] = "on"  # off: every client needs a password to read a bus
    # the address of the host at which other machines reach the buses, over TLS; default: none
    marketswarm_publish: Name | None = None


class JoinSettings(CommonSettings):
    """Further settings of `marketswarm join`."""

    marketswarm_join_password: SecretStr | None = None  # default: it is asked for


class HealerSettings(MonitorSettings):
    """Further settings of the healer."""

    healer_lease_sec: Seconds = 3.0


class NotifierSettings(ChannelSettings):
    """Further settings of the notifier."""

    # default: five minutes
    rate_limit_sec: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    notifier_lease_sec: Seconds = 3.0
    # hosts to which channels of the truth may send values of the environment: `marketswarm.truth.env_policy`
    notify_allowed_hosts: Annotated[str, Field(min_length=1)] | None = None
    approval_link_key: Key | None = None  # signs links that act; default: links only show
    board_public_url: Annotated[PublicUrl | None, AfterValidator(_require_if_used)] = None


class SentinelSettings(MonitorSettings, ChannelSettings):
    """Further settings of the sentinel."""

    sentinel_timeout_sec: Seconds | None = None  # default: three times the healer's interval
    sentinel_direct_sec: Seconds = 15.0  # the sentinel sends an alert that the notifier has not sent by then
    deadman_url: HttpUrl | None = Field(default=None, repr=False)
    deadman_interval_sec: Seconds = 60.0
