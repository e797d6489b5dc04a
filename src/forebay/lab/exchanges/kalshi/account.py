"""The one account that the simulated Kalshi knows: its two keys, and who signed with one."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RSA_KEY_ID: Final = "a1b2c3d4-0000-4000-8000-000000000001"
ED25519_KEY_ID: Final = "a1b2c3d4-0000-4000-8000-000000000002"
CLOCK_MS: Final = 5_000
"""So far off may the clock of somebody be who signs."""
WS_PATH: Final = "/trade-api/ws/v2"

_KEY, _TIME, _SIGNATURE = (
    "KALSHI-ACCESS-KEY",
    "KALSHI-ACCESS-TIMESTAMP",
    "KALSHI-ACCESS-SIGNATURE",
)
_SEED: Final = b"anybody may know this key of lab"
_RSA_BITS: Final = 2048
_DIGITS: Final = 20
_RSA, _ED25519 = "rsa", "ed25519"

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class LabAccount:
    """Knows whether a request is signed by one of the account's keys, and at about what time."""

    def __init__(self, keys: Mapping[str, PrivateKey] | None = None) -> None:
        """``keys`` are by name; without them there is one that anybody may know."""
        keys = keys or {_ED25519: ed25519.Ed25519PrivateKey.from_private_bytes(_SEED)}
        self._keys = {_ids()[name]: key for name, key in keys.items()}
        self.files: dict[str, str] = {}
        """What those are told who are to use it."""

    @classmethod
    def at(cls, folder: Path) -> LabAccount:
        """Return the account of a folder, whose keys and credentials are written if need be."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys: dict[str, PrivateKey] = {}
        for name, identifier in _ids().items():
            path = folder / f"{name}.pem"
            if not path.exists():
                _write(path, _pem(_new(name)))
            keys[name] = _read(path.read_bytes())
            told = f'key_id = "{identifier}"\nprivate_key_file = "{path.name}"\n'
            _write(folder / f"{name}.toml", told.encode())
        account = cls(keys)
        account.files = {
            "credentials_file": str((folder / f"{_RSA}.toml").resolve()),
            "credentials_file_ed25519": str((folder / f"{_ED25519}.toml").resolve()),
            "key_id": RSA_KEY_ID,
            "private_key_file": str((folder / f"{_RSA}.pem").resolve()),
        }
        return account

    def headers(self, method: str, path: str, wall_ns: int, key_id: str = "") -> dict[str, str]:
        """Return what signs a request, with the first key unless another one is named."""
        key_id = key_id or next(iter(self._keys))
        timestamp = str(wall_ns // 1_000_000)
        signature = _sign(self._keys[key_id], f"{timestamp}{method}{path}".encode())
        return {_KEY: key_id, _TIME: timestamp, _SIGNATURE: base64.b64encode(signature).decode()}

    def refusal(self, headers: Mapping[str, str], method: str, path: str, wall_ns: int) -> str:
        """Return why a request is not accepted, empty if it is.

        ``path`` has no query. For a websocket it is the published one, wherever it was asked for.
        """
        if any(name not in headers for name in (_KEY, _TIME, _SIGNATURE)):
            return "missing_authentication_headers"
        key = self._keys.get(headers[_KEY])
        if key is None:
            return "key_not_found"
        timestamp = headers[_TIME]
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < _DIGITS):
            return "header_timestamp_invalid"
        if abs(int(timestamp) - wall_ns // 1_000_000) > CLOCK_MS:
            return "header_timestamp_expired"
        try:
            signature = base64.b64decode(headers[_SIGNATURE], validate=True)
            _verify(key, signature, f"{timestamp}{method}{path}".encode())
        except (InvalidSignature, ValueError):
            return "incorrect_api_key_signature"
        return ""


def _ids() -> dict[str, str]:
    return {_RSA: RSA_KEY_ID, _ED25519: ED25519_KEY_ID}


def _new(name: str) -> PrivateKey:
    if name == _ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65_537, key_size=_RSA_BITS)


def _read(pem: bytes) -> PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, PrivateKey):
        raise TypeError(type(key))
    return key


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """Write what only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def _sign(key: PrivateKey, text: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(text)
    return key.sign(text, _pss(), hashes.SHA256())


def _verify(key: PrivateKey, signature: bytes, text: bytes) -> None:
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, text)
    else:
        public.verify(signature, text, _pss(), hashes.SHA256())
