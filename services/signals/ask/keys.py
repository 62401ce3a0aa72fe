"""Read the keys of voters outside: each is filed under the origin that it may be sent to. Pure.

    https://api.x.ai          xai-…
    https://api.perplexity.ai pplx-…

The truth says where a voter is asked, and everybody who can write to a bus can write a truth. So the
environment says which origin gets which key, and no other one gets any.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from marketswarm.net.addresses import require_encrypted_url
from marketswarm.settings import CommonSettings

MAX_KEYS: Final = 100
MAX_LINE: Final = 10_000
_KEY: Final = re.compile(r"[!-~]{1,8192}")
_PORTS: Final = {"http": 80, "https": 443}
NO_LINE: Final = "must be an origin such as https://api.x.ai, a space, and its key"


class OriginKeys:
    """Hold one key for each origin; it never shows one."""

    def __init__(self, keys: Mapping[str, SecretStr] | None = None) -> None:
        self._keys = dict(keys or {})

    def find(self, url: str) -> SecretStr | None:
        """Return the key that may be sent to a URL; None if none is filed under its origin."""
        origin = find_origin(url)
        return None if origin is None else self._keys.get(origin)

    def __len__(self) -> int:
        return len(self._keys)


def parse_keys(text: str) -> OriginKeys:
    """Return the keys of a text with an origin and its key on each line; `#` begins a line of comment.

    Raises ValueError, which names the line and shows nothing of it: a wrong origin, one that is not encrypted
    and not this machine, a key with other characters than printable ASCII, an origin that stands twice.
    """
    keys: dict[str, SecretStr] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split() if len(line) <= MAX_LINE else []
        if len(words) != 2 or _KEY.fullmatch(words[1]) is None:
            raise ValueError(f"line {number}: {NO_LINE}")
        try:
            origin = find_origin(require_encrypted_url("https", words[0]))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if origin is None or urlsplit(words[0]).path not in ("", "/"):
            raise ValueError(f"line {number}: {NO_LINE}")
        if origin in keys:
            raise ValueError(f"line {number}: has an origin that stands above")
        keys[origin] = SecretStr(words[1])
        if len(keys) > MAX_KEYS:
            raise ValueError(f"has more than {MAX_KEYS} keys")
    return OriginKeys(keys)


def _check_keys(secret: SecretStr) -> SecretStr:
    parse_keys(secret.get_secret_value())
    return secret


VoterKeys = Annotated[SecretStr, AfterValidator(_check_keys)]


class VoterEnvironment(CommonSettings):
    """The variables of the service signals about its voters."""

    signals_keys: VoterKeys | None = None  # lines of an origin and its key; default: no voter gets a key

    @property
    def origin_keys(self) -> OriginKeys:
        return OriginKeys() if self.signals_keys is None else parse_keys(self.signals_keys.get_secret_value())


def find_origin(url: str) -> str | None:
    """Return `scheme://host:port` of a URL, as text that is equal for equal origins; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or parts.scheme not in _PORTS:
        return None
    return f"{parts.scheme}://{parts.hostname.rstrip('.')}:{port}"
