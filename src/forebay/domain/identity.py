"""Event ids: 128 bits that say the same of one event, whenever and however it is received.

An id is a UUID of version 8 (RFC 9562, section 5.8). It is a *base* of 122 bits whose lower 62
a *number* is added to, modulo 2**62::

    48 bits  base, high part
     4 bits  1000, the version
    12 bits  base, middle part
     2 bits  10, the variant
    62 bits  base, low part + number

What base and number are is decided by the identity class that a venue's protocol declares for
a channel:

===========  ====================================  =======================================
class        base                                  number
===========  ====================================  =======================================
native       stream key (60 bits), low part 0      the venue's own integer id
native       digest of stream and text             0, where the venue's own id is a text
session      digest of stream, collector, epoch    the venue's number in that connection
content      digest of stream, time and content    ordinal: equal ones of its epoch before
observation  digest of stream, log id              journal sequence * 2**16 + item
===========  ====================================  =======================================

The stream key is the first 60 bits of SHA-256 over ``venue|market type|channel|symbol``; the
other digests are the first 122 bits of SHA-256 over a text that begins with the class's name,
which no venue is called. Ids of one base therefore sort by their number, and a column of them
compresses to little. The decisions are in ``docs/adr/0004`` and ``docs/adr/0017``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from uuid import UUID

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
else:
    from forebay.lazy import numpy as np

IdentityClass = Literal["native", "session", "content", "observation"]
"""What can serve as an identity depends on what the venue gives: see ``docs/explanation``."""

NATIVE_ID_LIMIT = 1 << 62
"""Numbers are below this; a sum of low part and number wraps here."""
ITEM_BITS = 16
"""An observation is the item of a frame: items are below ``1 << ITEM_BITS``."""

_VERSION = 0b1000
_VARIANT = 0b10


@lru_cache(maxsize=65536)
def stream_prefix(venue: str, market_type: str, channel: str, symbol: str) -> int:
    """Return the high 64 bits of every native id of a stream."""
    text = f"{venue}|{market_type}|{channel}|{symbol}"
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 4
    return (key >> 12) << 16 | _VERSION << 12 | key & 0xFFF


def native_id(prefix: int, native: int) -> UUID:
    """Return one event id; raises ``ValueError`` if ``native`` is not in [0, 2**62)."""
    if not 0 <= native < NATIVE_ID_LIMIT:
        message = f"native id {native} does not fit 62 bits"
        raise ValueError(message)
    return UUID(int=prefix << 64 | _VARIANT << 62 | native)


def digest_id(digest: bytes) -> UUID:
    """Return an id that holds the first 122 bits of a digest of at least 16 bytes."""
    bits = int.from_bytes(digest[:16], "big") >> 6
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & NATIVE_ID_LIMIT - 1
    return UUID(int=high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << 62 | low)


def base_text(identity: IdentityClass, *parts: str) -> str:
    """Return the text whose digest is a base; no two lists of parts have the same one."""
    return "|".join([identity, *(part.replace("%", "%25").replace("|", "%7C") for part in parts)])


@lru_cache(maxsize=65536)
def base_id(identity: IdentityClass, *parts: str) -> UUID:
    """Return the id of number 0 of a base that many events share.

    ``parts`` are venue, market type, channel and symbol; then for ``session`` the collector
    and the epoch, for ``observation`` the log id.
    """
    return digest_id(hashlib.sha256(base_text(identity, *parts).encode()).digest())


def digest_ids(texts: list[str]) -> npt.NDArray[np.uint64]:
    """Return :func:`digest_id` of SHA-256 over each text as halves, shape (n, 2)."""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(text.encode()).digest() for text in texts])
    raw = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)[:, :2].astype(np.uint64)
    # 128 bits as 48, 12, 62 and 6 that are not used: version and variant come between.
    high, low = raw[:, 0], raw[:, 1]
    halves = np.empty_like(raw)
    halves[:, 0] = (high >> np.uint64(16)) << np.uint64(16) | np.uint64(_VERSION << 12)
    halves[:, 0] |= high >> np.uint64(4) & np.uint64(0xFFF)
    halves[:, 1] = (high & np.uint64(0xF)) << np.uint64(58) | low >> np.uint64(6)
    halves[:, 1] |= np.uint64(_VARIANT << 62)
    return halves


def halves_of(bases: list[UUID]) -> npt.NDArray[np.uint64]:
    """Return high and low 64 bits of each id, shape (n, 2)."""
    raw = b"".join(base.bytes for base in bases)
    return np.frombuffer(raw, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def numbered(
    halves: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Add ``numbers`` in [0, 2**62), shape (n,), to the low 62 bits of ids, shape (n, 2)."""
    ids = halves.copy()
    # The sum of both is below 2**64: version and variant stay, the carry is cut off.
    low = (halves[:, 1] & np.uint64(NATIVE_ID_LIMIT - 1)) + numbers.astype(np.uint64)
    ids[:, 1] = low & np.uint64(NATIVE_ID_LIMIT - 1) | np.uint64(_VARIANT << 62)
    return ids


def uuids(halves: npt.NDArray[np.uint64]) -> pa.Array:
    """Return ids, shape (n, 2), as an Arrow array of ``uuid``."""
    import pyarrow as pa  # noqa: PLC0415 - capture needs the ids' limit and no Arrow

    raw = pa.py_buffer(halves.astype(">u8").tobytes())
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(halves), [None, raw])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
