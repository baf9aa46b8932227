"""Webhooks: which may be called, and how a call is signed (standardwebhooks.com, version 1)."""

import base64
import binascii
import hashlib
import hmac
import ipaddress

import httpx2

from pipeline.config import Settings
from pipeline.errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECRET_PREFIX = "whsec_"  # noqa: S105  the standard's mark of a secret in base64


def check_webhook(url: str, settings: Settings) -> httpx2.URL:
    """The URL, where the settings allow to call it.

    Raises:
        ConfigurationError: they do not, or nothing could be signed; one sentence, without the
            URL's query.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigurationError(f"the webhook is no URL: {error}") from error
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
        raise ConfigurationError("the webhook is no URL of http or https")
    if parsed.userinfo:
        raise ConfigurationError(
            f"the webhook on {parsed.host} names a user; leave it out: calls are signed instead"
        )
    if not any(_is_listed(parsed, entry) for entry in settings.events.webhook_hosts):
        raise ConfigurationError(
            f"no webhooks are called on {parsed.host}:{_port(parsed)}; allow it in "
            "events.webhook_hosts, as host or host:port"
        )
    if parsed.scheme == "http" and not _is_loopback(parsed.host):
        raise ConfigurationError(f"the webhook on {parsed.host} must be https")
    signing_key(settings)
    return parsed


def _is_listed(url: httpx2.URL, entry: str) -> bool:
    try:
        # A scheme of no standard port: one that is written stays.
        listed = httpx2.URL(f"webhook://{entry}")
    except httpx2.InvalidURL as error:
        raise ConfigurationError(
            f"events.webhook_hosts: {entry!r} is neither host nor host:port"
        ) from error
    return listed.raw_host == url.raw_host and listed.port in (None, _port(url))


def _port(url: httpx2.URL) -> int:
    return url.port or _DEFAULT_PORTS[url.scheme]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_url(url: str) -> str:
    """The URL for people: no user, no query."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return "(no URL)"
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


def signing_key(settings: Settings) -> bytes:
    """The key of ``events.webhook_secret``. Raises ConfigurationError where there is none."""
    if settings.events.webhook_secret is None:
        raise ConfigurationError(
            "webhooks need a secret to sign with; set MEDIAWEAVE_EVENTS__WEBHOOK_SECRET"
        )
    secret = settings.events.webhook_secret.get_secret_value()
    if not secret.startswith(_SECRET_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error as error:
            raise ConfigurationError(
                "events.webhook_secret begins with whsec_, but no base64 follows"
            ) from error
    if not key:
        raise ConfigurationError("events.webhook_secret is empty")
    return key


def signed_headers(key: bytes, *, event_id: int, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that let a receiver check sender, age (Unix seconds) and body of a call."""
    message_id = f"msg_{event_id}"
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
