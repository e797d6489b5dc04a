"""Signatures of requests, and of the websocket's upgrade; needs ``cryptography``.

Facts from the venue's page "API Keys" and its official client: the text is the time in
milliseconds, the method and the path from its first slash, without the query. A key of RSA signs by
PSS over SHA-256, with a salt as long as the digest; one of Ed25519 as Ed25519 does.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from forebay.errors import ConfigError
from forebay.sources.kalshi.protocol import KEY_ID, PRIVATE_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


def headers(
    credentials: Mapping[str, str], method: str, target: str, now_ns: int
) -> dict[str, str]:
    """Return what signs a request for path and query; ``now_ns`` is the wall clock, UTC.

    Raises :class:`~forebay.errors.ConfigError` if the key cannot be used.
    """
    stamp = str(now_ns // 1_000_000)
    text = f"{stamp}{method.upper()}{target.partition('?')[0]}".encode()
    key = _key(credentials.get(PRIVATE_KEY, ""))
    signed = (
        key.sign(text, _PSS, hashes.SHA256())
        if isinstance(key, rsa.RSAPrivateKey)
        else key.sign(text)
    )
    return {
        "KALSHI-ACCESS-KEY": credentials.get(KEY_ID, ""),
        "KALSHI-ACCESS-TIMESTAMP": stamp,
        "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signed).decode(),
    }


@lru_cache(maxsize=16)
def _key(pem: str) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    """Read a key; no error ever shows a part of it."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):  # the latter if it is encrypted
        key = None
    if not isinstance(key, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
        hint = "It is the PEM file of Kalshi's page of API keys: RSA or Ed25519, not encrypted."
        raise ConfigError("The private_key of kalshi is none.", hint=hint) from None
    return key
