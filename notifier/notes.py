"""What the notifier says of itself: that a channel is broken, that this is a test. Pure."""

from collections.abc import Mapping

from marketswarm.channels import Message, Severity, What


def broken(channel: str, where: str, reason: str, now: float) -> Message:
    """A channel accepts nothing until it is repaired; `now` is in epoch seconds."""
    at = f" ({where})" if where and where != channel else ""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} is broken: {reason}",
        f"{channel}{at} refused a message for good; see `marketswarm dead`",
        Severity.WARNING,
        now,
    )


def unopened(channel: str, why: str, now: float) -> Message:
    """A channel of the truth can't be opened; `now` is in epoch seconds."""
    return Message(
        f"channel.{channel}.{round(now * 1000)}",
        f"channel {channel} can't be opened",
        f"{why}; until that is right, nothing goes there",
        Severity.WARNING,
        now,
    )


def readdressed(shown: Mapping[str, str], revision: int, now: float) -> Message:
    """The truth names addresses that no channel had before; `now` is in epoch seconds."""
    names = ", ".join(sorted(shown))
    lines = tuple(f"{name}: {shown[name]}" for name in sorted(shown))
    return Message(
        f"addresses.{revision}.{round(now * 1000)}",
        f"the truth sends messages to a new address: {names}",
        f"revision {revision} of the truth names it; if you did not seed that, find out who did",
        Severity.WARNING,
        now,
        lines=lines,
    )


def trial(ask: str, by: str, now: float) -> Message:
    """What somebody wants to see arrive; `now` is in epoch seconds."""
    text = f"{by} asked for this message, to see whether it arrives; nothing is wrong"
    return Message(f"test.{ask}", "This is a test", text, Severity.INFO, now, what=What.TEST)
