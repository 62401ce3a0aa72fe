"""The ways to reach people, a file each. The notifier uses them, and the sentinel when the notifier does not.

A channel is something with a `name` and an `async send(message)`, made from settings, closed when done with.
What it can't deliver it says as `SendError`, which tells by itself whether trying again is of use. Not here:
what is worth a message, to whom, and how often it is tried.
"""

from marketswarm.channels.channel import Channel, Failure, Receipt, SendError
from marketswarm.channels.event_text import message_for_event
from marketswarm.channels.message import Message, MessageKind, Severity
from marketswarm.channels.registry import KINDS, ChannelError, channels_from_environment, create_channel

__all__ = [
    "KINDS",
    "Channel",
    "ChannelError",
    "Failure",
    "Message",
    "MessageKind",
    "Receipt",
    "SendError",
    "Severity",
    "channels_from_environment",
    "create_channel",
    "message_for_event",
]
