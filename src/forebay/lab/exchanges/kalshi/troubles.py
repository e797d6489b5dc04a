"""What the simulated Kalshi can be made to do wrong, beside what every exchange can."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.lab.faults import TOO_MANY

if TYPE_CHECKING:
    from collections.abc import Mapping

HOLE: Final = "seq-hole"
NEW_SIDS: Final = "new-sids"
OVERFLOW: Final = "overflow"
FAILED: Final = "channel-error"
ONE_SIDED: Final = "snapshot-one-sided"
AGAIN: Final = "snapshot-again"
NO_SNAPSHOT: Final = "no-snapshot"
UNANSWERED: Final = "get-snapshot-unanswered"
ERRORS: Final = "error-frames"
ROW_AGAIN: Final = "cursor-row-again"
MAINTENANCE: Final = "maintenance"
HISTORICAL: Final = "historical"
OLDER: Final = "schema-older"
NEWER: Final = "schema-newer"

ABOUT: Final[Mapping[str, str]] = MappingProxyType(
    {
        HOLE: "an event whose index `every` divides is not sent, and its `seq` is missing",
        NEW_SIDS: "sids of a new connection begin where no connection's have been",
        OVERFLOW: "every subscription is over, with error code 25, as soon as it is made",
        FAILED: "every subscription is over, with error code 10, as soon as it is made",
        ONE_SIDED: "snapshots lack the side of NO, though there is one",
        AGAIN: "before a change of the book whose index `every` divides comes a snapshot, unasked",
        NO_SNAPSHOT: "a subscription to books brings no snapshot",
        UNANSWERED: "nothing answers `get_snapshot`",
        ERRORS: "before a trade whose index `every` divides comes an error that answers nothing",
        ROW_AGAIN: "a page of REST begins with the last row of the one before",
        MAINTENANCE: "REST answers 503, the exchange says that it is not active, and no websocket "
        "is open",
        HISTORICAL: "what is older than `after_s` seconds has moved to the lists of the archive",
        OLDER: "REST speaks as before fixed point: whole contracts, no `_fp`; sizes are cut",
        NEWER: "REST leaves out the whole cents and contracts of before",
    }
)
TROUBLES: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        **{name: {} for name in ABOUT},
        HOLE: {"every": 100},
        AGAIN: {"every": 100},
        ERRORS: {"every": 100},
        HISTORICAL: {"after_s": 60},
        TOO_MANY: {"retry_after_s": 0, "form": 0},
    }
)
"""With what each can be told."""
