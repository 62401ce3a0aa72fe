"""Secrets do not belong into the truth: what looks like one, and the `"env:NAME"` form that stands for one.

The truth is printed, stored fifty times over and read by every agent. Not here: reading the environment or
the files that `<NAME>_FILE` twins name; `resolve` is given what they say.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

_ENV: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET: Final = re.compile(r"password|passwd|passphrase|secret(?!ar)|token(?!i[sz])|apikey")
# as the last word of a key, these make a number a secret too; `max_tokens: 4000` is a setting
_NUMBER: Final = re.compile(r"(?:password|passwd|passphrase|secret|apikey)s?|token")
# the password of a URL, a slash or hash in it included; `host:443/@user` is none
_URL_PASSWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]*:(?!\d{1,5}[/?#])[^\s@]+@")
_URL_QUERY: Final = re.compile(r"[?&;]([^=&;?#\s]+)=(?=[^&;#\s])")

LITERAL: Final = 'a secret in plain text: write "env:NAME" here and set NAME in the environment'
IN_URL: Final = (
    'a password or key in a URL: write "env:NAME" here and set NAME to the whole URL in the environment'
)


@lru_cache(maxsize=4096)
def says_secret(key: str) -> bool:
    """Whether a key says password, secret, token or api key, in any spelling."""
    return _SECRET.search("".join(_WORD.findall(key)).lower()) is not None


@lru_cache(maxsize=4096)
def says_secret_number(key: str) -> bool:
    """Whether a number under that key would be a secret: its last word says so."""
    words = [word.lower() for word in _WORD.findall(key)]
    return any(_NUMBER.fullmatch("".join(words[-count:])) for count in (1, 2))


def is_reference(text: str) -> bool:
    """Whether a text is of the form `env:NAME`, which stands for a variable."""
    return text.startswith("env:") and _ENV.fullmatch(text) is not None


def reference_in(value: Any) -> str | None:
    """NAME of a value `"env:NAME"`, which stands for that variable; None for any other value."""
    match = _ENV.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else match[1]


def password_in_url(text: str) -> bool:
    """Whether a text holds a URL with a password, or with a query such as `?apikey=…`, in it."""
    if "://" not in text:
        return False
    if "@" in text and _URL_PASSWORD.search(text):
        return True
    return "=" in text and any(says_secret(match[1]) for match in _URL_QUERY.finditer(text))


def resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """A setting with each `"env:NAME"` in it, at any depth, replaced by what the environment says.

    Raises LookupError, naming the variable, when it is not set.
    """
    if isinstance(value, str):
        match = _ENV.fullmatch(value)
        if match is None:
            return value
        if match[1] not in environ:
            raise LookupError(f"the truth asks for {match[1]}, which is not set in the environment")
        return environ[match[1]]
    if isinstance(value, Mapping):
        return {key: resolve(inner, environ) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(inner, environ) for inner in value]
    return value
