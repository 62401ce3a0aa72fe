"""Send messages to people: one file for each kind of channel.

The notifier uses the channels, and the sentinel when the notifier doesn't answer. A channel has a `name` and
an `async send(message)`, is created from options, and is closed after use. A failed attempt raises
`SendError`, which says whether another attempt may succeed; `worker.py` makes the attempts.

Enters: a message, and the options of a channel from the truth or the environment.
Leaves: a request to a server, a mail or a program that runs; a receipt or a `SendError`.
Never: a decision on who is told what, a secret in an error, or markup from the text of an alert.
"""

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used

if TYPE_CHECKING:
    from marketswarm.channels.channel import Channel, Failure, Receipt, SendError
    from marketswarm.channels.message import AlertState, Message, MessageKind, make_event_message
    from marketswarm.channels.registry import KINDS, ChannelError, create_channel, create_environment_channels
    from marketswarm.event import Severity

__all__ = [
    "KINDS",
    "AlertState",
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

__getattr__ = import_when_used(__name__)
