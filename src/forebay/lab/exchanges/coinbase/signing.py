"""The one account that the simulated exchange knows, and how its requests are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

KEY: Final = "forebay-lab"
SECRET: Final = base64.b64encode(b"anybody may know this").decode()
PASSPHRASE: Final = "simulated"  # noqa: S105 - it guards nothing

_SIGNED_PATH = "GET/users/self/verify"


def signature(timestamp: str) -> str:
    """What signs a subscription that is made at ``timestamp``."""
    message = f"{timestamp}{_SIGNED_PATH}".encode()
    digest = hmac.digest(base64.b64decode(SECRET), message, hashlib.sha256)
    return base64.b64encode(digest).decode()


def what_is_wrong(document: dict[str, object]) -> str:
    """Why the signature of a subscription is not accepted, empty if it is.

    How old it is does not matter here.
    """
    if document.get("key") != KEY:
        return "Invalid API Key"
    if document.get("passphrase") != PASSPHRASE:
        return "Invalid Passphrase"
    right = signature(str(document.get("timestamp")))
    given = str(document.get("signature"))
    return "" if hmac.compare_digest(right.encode(), given.encode()) else "invalid signature"
