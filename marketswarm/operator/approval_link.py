"""Make and verify the links by which the reader of a message may approve one proposal of the medic. Pure.

A link names the proposal and the time until which it counts, and is signed with a key that only notifier and
board have (`APPROVAL_LINK_KEY`). It opens nothing else, and nothing once that proposal is over. It is a
credential, so it is never on a bus: the notifier adds it to a message when that is sent.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from pydantic import SecretStr

from marketswarm.event import Event, Kind
from marketswarm.text import format_moment
from marketswarm.truth import MEDIC, PROPOSED_RULE

LINK_PATH: Final = "/approve/"
MAX_LIFE_SEC: Final = 86_400.0
"""How long after its event a link counts at most: a truth lets no proposal wait longer."""
_PURPOSE: Final = b"marketswarm approval "
"""What is signed begins with it, so that a signature for something else by the same key is none of a link."""
_LINK: Final = re.compile(r"([0-9a-f]{8})\.([0-9]{1,11})\.([A-Za-z0-9_-]{43})")
_REQUEST: Final = re.compile(
    r"; to approve it until ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC: "
    rf"marketswarm {MEDIC} approve ([0-9a-f]{{8}})\Z"
)


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """The proposal `ident` that a link approves, and until when it counts, in epoch seconds."""

    ident: str
    until: float


def describe_request(remedy: str, target: LinkTarget) -> str:
    """Return the reason of a proposal's event, which `find_link_target` reads."""
    until = format_moment(target.until)
    return f"{remedy}; to approve it until {until}: marketswarm {MEDIC} approve {target.ident}"


def find_link_target(event: Event) -> LinkTarget | None:
    """Return the proposal that an event is about; None for other events."""
    if event.type is not Kind.MONITOR_MISS or not event.svc.startswith(f"{MEDIC}/{PROPOSED_RULE}/"):
        return None
    found = _REQUEST.search(event.reason or "")
    if found is None:
        return None
    try:
        until = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:  # a 31st of February
        return None
    return LinkTarget(found[2], min(until, event.ts + MAX_LIFE_SEC))


def make_link(public_url: str, key: SecretStr, target: LinkTarget) -> str:
    text = f"{target.ident}.{int(target.until)}"
    return f"{public_url}{LINK_PATH}{text}.{_sign(key, text)}"


def read_link(text: str, key: SecretStr, now: float) -> LinkTarget | None:
    """Return what a link approves at `now`; None if it has ended, or was not signed with `key`.

    `text` is what follows LINK_PATH.
    """
    found = _LINK.fullmatch(text)
    if found is None or now > int(found[2]):
        return None
    is_ours = hmac.compare_digest(_sign(key, f"{found[1]}.{found[2]}"), found[3])
    return LinkTarget(found[1], float(found[2])) if is_ours else None


def _sign(key: SecretStr, text: str) -> str:
    digest = hmac.digest(key.get_secret_value().encode(), _PURPOSE + text.encode(), sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")
