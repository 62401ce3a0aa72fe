"""Make and verify the links by which whoever reads a message may approve one proposal of the medic. Pure.

A link names the proposal and the time until which it counts, and is signed with a key that only notifier and
board have (`APPROVAL_LINK_KEY`). It opens nothing else, and nothing once that proposal is over. It is a
credential, so it is never on a bus: the notifier adds it to a message when that is sent.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from pydantic import SecretStr

from marketswarm.event import Event, Kind
from marketswarm.truth import MEDIC, PROPOSED_RULE

LINK_PATH: Final = "/approve/"
LIFE_SEC: Final = 3600.0
"""How long after its event a link counts: as long as a proposal waits, unless the truth says otherwise."""
_PURPOSE: Final = b"marketswarm approval "
"""What is signed begins with it, so that a signature for something else by the same key is none of a link."""
_LINK: Final = re.compile(r"([0-9a-f]{8})\.([0-9]{1,11})\.([A-Za-z0-9_-]{43})")
_COMMAND: Final = re.compile(rf"\bmarketswarm {MEDIC} approve ([0-9a-f]{{8}})$")


def find_proposal_id(event: Event) -> str | None:
    """Return the id of the proposal that an event is about; None for other events."""
    if event.type is not Kind.MONITOR_MISS or not event.svc.startswith(f"{MEDIC}/{PROPOSED_RULE}/"):
        return None
    found = _COMMAND.search(event.reason or "")
    return None if found is None else found[1]


def make_link(public_url: str, key: SecretStr, ident: str, until: float) -> str:
    """Return the link that approves the proposal `ident` until a time, in epoch seconds."""
    text = f"{ident}.{int(until)}"
    return f"{public_url}{LINK_PATH}{text}.{_sign(key, text)}"


def read_link(text: str, key: SecretStr, now: float) -> str | None:
    """Return the id of the proposal that the end of a link approves at `now`; None if it doesn't count."""
    found = _LINK.fullmatch(text)
    if found is None or now > int(found[2]):
        return None
    is_ours = hmac.compare_digest(_sign(key, f"{found[1]}.{found[2]}"), found[3])
    return found[1] if is_ours else None


def _sign(key: SecretStr, text: str) -> str:
    digest = hmac.digest(key.get_secret_value().encode(), _PURPOSE + text.encode(), sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")
