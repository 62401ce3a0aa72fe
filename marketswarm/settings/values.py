"""Values that settings and options are made of, checked: addresses, secrets that sign, seconds, ports.

What is wrong with one is said without the value, since it may hold a secret. Not here: which there are.
"""

import re
from base64 import b64decode
from email.utils import getaddresses
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from marketswarm.bus_url import FORMS, is_one

WHSEC: Final = "whsec_"
"""How the Standard Webhooks mark a secret that is base64."""


def _redis_url(url: str) -> str:
    if not is_one(url):
        raise ValueError(f"must be {FORMS}")
    return url


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ValueError("must be http://host/… or https://host/…")
    return url


def _signing(secret: SecretStr) -> SecretStr:
    encoded = secret.get_secret_value()
    if encoded.startswith(WHSEC):
        try:
            usable = bool(b64decode(encoded.removeprefix(WHSEC), validate=True))
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"must have base64 after {WHSEC}")
    return secret


def _addresses(value: str) -> str:
    found = [address for _, address in getaddresses([value])]
    fit = [re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in found]
    if not value.isprintable() or not found or not all(fit):
        raise ValueError("must be mail addresses, separated by commas")
    if not all(map(str.isascii, found)):
        # half of all servers take no others, and would refuse each mail for good
        raise ValueError("must be mail addresses in ASCII (other letters in a domain are written xn--…)")
    return value


def _host_names(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", name) for name in names if name):
        raise ValueError("must be host names without ports, separated by commas")
    return ",".join(filter(None, names))


def _token(secret: SecretStr) -> SecretStr:
    """What is put into a header or a path must not break out of it."""
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces")
    return secret


def _level(value: Any) -> Any:
    word = str(value).strip().upper()
    return {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(word, word)


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Signing = Annotated[SecretStr, AfterValidator(_signing)]
Token = Annotated[SecretStr, AfterValidator(_token)]
HostNames = Annotated[str, AfterValidator(_host_names)]
Addresses = Annotated[str, AfterValidator(_addresses)]
Tls = Annotated[Literal["starttls", "tls", "none"], BeforeValidator(_lower)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)]
Format = Annotated[Literal["json", "console"], BeforeValidator(_lower)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Port = Annotated[int, Field(ge=1, le=65_535)]
