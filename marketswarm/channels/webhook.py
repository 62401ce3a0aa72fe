"""POST messages to a generic webhook in the form of Standard Webhooks (www.standardwebhooks.com)."""

import hmac
import time
from base64 import b64decode, b64encode
from hashlib import sha256

from pydantic import BaseModel, ConfigDict, Field

from marketswarm.channels.channel import Channel, Receipt
from marketswarm.channels.http import Http, find_host
from marketswarm.channels.message import Message, encode_webhook_body
from marketswarm.settings import BASE64_PREFIX, HttpUrl, SigningSecret


class Options(BaseModel):
    """The URL, and the secret with which requests are signed, if any."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl = Field(repr=False)
    secret: SigningSecret | None = None


class Webhook:
    """A channel that POSTs each message to one URL, signed if there is a secret."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        self.name = name
        self.where = find_host(options.url)
        self._url = options.url
        secret = options.secret
        self._key = None if secret is None else parse_signing_key(secret.get_secret_value())
        self._http = http or Http()
        self.within_sec = self._http.within_sec

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - no threads here
        """Send a message; `anchor` is not used, since the service has no threads. Raises SendError."""
        body = encode_webhook_body(message)
        headers = build_headers(message, body, round(time.time()), self._key)
        answer = await self._http.request("POST", self._url, body=body, headers=headers)
        return Receipt(str(answer.status))

    async def aclose(self) -> None:
        await self._http.aclose()


def create(name: str, options: Options) -> Channel:
    return Webhook(name, options)


def build_headers(message: Message, body: bytes, at: int, key: bytes | None) -> dict[str, str]:
    """Return the headers of one attempt at `at` (epoch seconds), with a signature if there is a key."""
    headers = {
        "content-type": "application/json",
        "webhook-id": message.key,
        "webhook-timestamp": str(at),
    }
    if key is not None:
        headers["webhook-signature"] = sign_body(message.key, at, body, key)
    return headers


def sign_body(ident: str, at: int, body: bytes, key: bytes) -> str:
    """Return `v1,` and the HMAC-SHA256 of id, timestamp and body, as the Standard Webhooks define."""
    digest = hmac.digest(key, f"{ident}.{at}.".encode() + body, sha256)
    return f"v1,{b64encode(digest).decode()}"


def parse_signing_key(secret: str) -> bytes:
    """Return the decoded base64 after `whsec_`, otherwise the secret's own bytes."""
    if secret.startswith(BASE64_PREFIX):
        return b64decode(secret.removeprefix(BASE64_PREFIX))
    return secret.encode()
