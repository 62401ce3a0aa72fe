"""The ways to reach people, a file each. The notifier uses them, and the sentinel when the notifier does not.

A channel is something with a `name` and an `async send(message)`, made from settings, closed when done with.
What it can't deliver it says as `SendError`, which tells by itself whether trying again is of use. Not here:
what is worth a message, to whom, and how often it is tried.
"""

from marketswarm.channels.channel import Channel, Failure, Receipt, SendError
from marketswarm.channels.event_text import message_of
from marketswarm.channels.message import Message, Severity, What
from marketswarm.channels.registry import KINDS, ChannelError, make, open_channels

__all__ = [
    "KINDS",
    "Channel",
    "ChannelError",
    "Failure",
    "Message",
    "Receipt",
    "SendError",
    "Severity",
    "What",
    "make",
    "message_of",
    "open_channels",
]
