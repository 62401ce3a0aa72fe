"""What single programs read from the environment besides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from marketswarm.settings.environment import Common
from marketswarm.settings.values import HttpUrl, Name, Seconds
from marketswarm.settings.ways import ChannelSettings


class VigilSettings(Common):
    """What the healer and who watches it must agree on. `None`: the truth's, else the default."""

    alert_channel: Name | None = None
    hb_interval_sec: Seconds | None = None
    healer_heartbeat_channel: Name | None = None


class AccessSettings(VigilSettings):
    """What the one-shot that makes users and passwords reads besides."""

    access_dir: Path = Path("/access")
    default_user: Literal["on", "off"] = "on"  # off: nobody looks at a bus without a password


class HealerSettings(VigilSettings):
    """What the healer reads besides."""

    healer_lease_sec: Seconds = 3.0


class NotifierSettings(ChannelSettings):
    """What the notifier reads besides."""

    rate_limit_sec: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = (
        None  # default: five minutes
    )
    notifier_lease_sec: Seconds = 3.0
    # where channels of the truth may send what they have of the environment: see `marketswarm.truth.grants`
    notify_allowed_hosts: Annotated[str, Field(min_length=1)] | None = None


class SentinelSettings(VigilSettings, ChannelSettings):
    """What the sentinel reads besides."""

    sentinel_timeout_sec: Seconds | None = None  # default: three times the healer's interval
    sentinel_direct_sec: Seconds = 15.0  # what the notifier has to tell of something before the sentinel does
    deadman_url: HttpUrl | None = Field(default=None, repr=False)
    deadman_interval_sec: Seconds = 60.0
