"""Recognise secrets in a truth, and the form `"env:NAME"` that stands for the value of a variable. Pure.

A truth must hold no secret, because it is printed, stored in fifty revisions and read by every agent. Not
here: reading the environment, or the files of `<NAME>_FILE` variables.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from marketswarm.text import map_texts

_REFERENCE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET: Final = re.compile(r"password|passwd|passphrase|secret(?!ar)|token(?!i[sz])|apikey")
# as the last word or two of a key, these make a number a secret too; `max_tokens: 4000` is a setting
_SECRET_NUMBER: Final = re.compile(r"(?:password|passwd|passphrase|secret|apikey)s?|token")
# what is before the `@` of a URL with a password; that may contain a slash or hash; `host:443/@user` has none
_URL_PASSWORD: Final = re.compile(r"[A-Za-z0-9+.-]://[^\s/?#]*:(?!\d{1,5}[/?#])[^\s]")
_URL_QUERY: Final = re.compile(r"[?&;]([^=&;?#\s]+)=(?=[^&;#\s])")

PLAIN_CREDENTIAL: Final = 'a secret in plain text: write "env:NAME" here and set NAME in the environment'
CREDENTIAL_IN_URL: Final = (
    'a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
)


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Return True if a key contains password, passphrase, secret, token or api key, in any spelling."""
    return _SECRET.search("".join(_WORD.findall(key)).lower()) is not None


@lru_cache(maxsize=4096)
def is_secret_number_key(key: str) -> bool:
    """Return True if the last word or two of a key make a number under it a secret: `api_token`."""
    words = [word.lower() for word in _WORD.findall(key)]
    return any(_SECRET_NUMBER.fullmatch("".join(words[-count:])) for count in (1, 2))


def is_reference(text: str) -> bool:
    """Return True if a text has the form `env:NAME`, which stands for the value of a variable."""
    return text.startswith("env:") and _REFERENCE.fullmatch(text) is not None


def parse_reference(value: Any) -> str | None:
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else match[1]


def has_url_password(text: str) -> bool:
    """Return True if a text contains a URL with a password, or with a query such as `?apikey=…`."""
    if "://" not in text:
        return False
    if any(_URL_PASSWORD.search(each) for word in text.split() for each in word.split("@")[:-1]):
        return True
    return "=" in text and any(is_secret_key(match[1]) for match in _URL_QUERY.finditer(text))


def resolve_references(value: Any, environ: Mapping[str, str]) -> Any:
    """Return a setting with each `"env:NAME"` in it, at any depth, replaced by the value of that variable.

    Raises LookupError if a variable is not set; the message names it.
    """

    def resolve(text: str) -> str:
        name = parse_reference(text)
        if name is not None and name not in environ:
            raise LookupError(f"the truth asks for {name}, which is not set in the environment")
        return text if name is None else environ[name]

    return map_texts(value, resolve)
