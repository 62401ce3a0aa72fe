"""POST messages to a generic webhook in the form of Standard Webhooks (www.standardwebhooks.com)."""

import hmac
import time
from base64 import b64decode, b64encode
from hashlib import sha256

from marketswarm.channels.channel import Receipt
from marketswarm.channels.http import Http, HttpChannel, UrlOptions, require_success
from marketswarm.channels.message import Message, encode_webhook_body
from marketswarm.settings import BASE64_PREFIX, SigningSecret


class Options(UrlOptions):
    """The URL, and the secret with which requests are signed, if any."""

    secret: SigningSecret | None = None


class Webhook(HttpChannel):
    """A channel that POSTs each message to one URL, signed if there is a secret."""

    def __init__(self, name: str, options: Options, http: Http | None = None) -> None:
        super().__init__(name, options.url, http)
        secret = options.secret
        self._key = None if secret is None else parse_signing_key(secret.get_secret_value())

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - no threads here
        body = encode_webhook_body(message)
        headers = build_headers(message, body, round(time.time()), self._key)
        answer = await self._http.exchange("POST", self._url, body=body, headers=headers)
        return Receipt(str(require_success(answer).status))


def build_headers(message: Message, body: bytes, at: int, key: bytes | None) -> dict[str, str]:
    """Return the headers of one attempt at `at` (epoch seconds), with a signature if there is a key."""
    headers = {"content-type": "application/json", "webhook-id": message.key, "webhook-timestamp": str(at)}
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
