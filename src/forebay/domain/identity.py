"""Event ids: 128 bits that say the same on every collector, whenever and however received.

An id of class ``native`` is a UUID of version 8 (RFC 9562, section 5.8)::

    48 bits  stream key, high part
     4 bits  1000, the version
    12 bits  stream key, low part
     2 bits  10, the variant
    62 bits  the venue's own integer id

The stream key is the first 60 bits of SHA-256 over ``venue|market type|channel|symbol``.
Ids of one stream therefore sort in the venue's order, the venue's id can be read back, and a
column of them compresses to almost nothing; the decision is in ``docs/adr/0004``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

NATIVE_ID_LIMIT = 1 << 62
"""Native integer ids are below this."""

_VERSION = 0b1000
_VARIANT = 0b10


@lru_cache(maxsize=65536)
def stream_prefix(venue: str, market_type: str, channel: str, symbol: str) -> int:
    """Answer the high 64 bits of every native id of a stream."""
    text = f"{venue}|{market_type}|{channel}|{symbol}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 4
    return (key >> 12) << 16 | _VERSION << 12 | key & 0xFFF


def native_id(prefix: int, native: int) -> UUID:
    """Answer one event id; raises ``ValueError`` if ``native`` is not in [0, 2**62)."""
    if not 0 <= native < NATIVE_ID_LIMIT:
        message = f"native id {native} does not fit 62 bits"
        raise ValueError(message)
    return UUID(int=prefix << 64 | _VARIANT << 62 | native)


def content_id(digest: bytes) -> UUID:
    """Answer an id that holds the first 122 bits of a digest of at least 16 bytes."""
    bits = int.from_bytes(digest[:16], "big") >> 6
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & NATIVE_ID_LIMIT - 1
    return UUID(int=high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << 62 | low)


def native_ids(prefixes: npt.NDArray[np.uint64], natives: npt.NDArray[np.int64]) -> pa.Array:
    """Answer event ids as an Arrow array of ``uuid``, one for each pair; see :func:`native_id`."""
    import pyarrow as pa  # noqa: PLC0415 - capture needs the ids' limit and no Arrow

    halves = np.empty((len(natives), 2), dtype=">u8")
    halves[:, 0] = prefixes
    halves[:, 1] = natives.astype(np.uint64) | np.uint64(_VARIANT << 62)
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(natives), [None, pa.py_buffer(halves.tobytes())]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
