"""Send messages to people: one file for each kind of channel.

The notifier uses the channels, and the sentinel when the notifier doesn't answer. A channel has a
`name` and an `async send(message)`, is created from options, and is closed after use. A failed attempt
raises `SendError`, which says whether another attempt may succeed; `worker.py` makes the attempts. Not
here: which messages are sent over which channels.
"""

from marketswarm.channels.channel import Channel, Failure, Receipt, SendError
from marketswarm.channels.message import Message, MessageKind, make_event_message
from marketswarm.channels.registry import KINDS, ChannelError, create_channel, create_environment_channels
from marketswarm.event import Severity

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
    "create_channel",
    "create_environment_channels",
    "make_event_message",
]
