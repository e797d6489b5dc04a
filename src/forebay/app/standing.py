"""How each stream that is asked for stands, as ``forebay status`` shows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ops.view import StreamReport

NAMED = 3
"""So many streams are named in one line."""


def document(streams: Sequence[StreamReport]) -> list[dict[str, Any]]:
    """Return a plain object a stream; moments are texts, or null."""
    return [
        {
            "venue": each.venue,
            "market": each.market,
            "channel": each.channel,
            "symbol": each.symbol,
            "state": each.state,
            "asked": _text(each.asked_ns),
            "acknowledged": _text(each.acknowledged_ns),
            "last_heard": _text(each.heard_ns),
            "refused": each.refused,
            "refusals": each.refusals,
            "retry": _text(each.retry_ns),
        }
        for each in streams
    ]


def summary(streams: Sequence[StreamReport]) -> str:
    """Return one line: how many are heard, and which are not; nothing if nothing is asked for."""
    if not streams:
        return ""
    heard = Counter(each.state for each in streams)["heard"]
    wrong = [
        f"{each.venue}/{each.channel}/{each.symbol} {each.state}"
        + (f" ({each.refused.rstrip('.')})" if each.refused else "")
        for each in streams
        if each.state in ("refused", "silent")
    ]
    told = [*wrong[:NAMED], *([f"{len(wrong) - NAMED} more"] if len(wrong) > NAMED else [])]
    return f"{heard} of {len(streams)} heard" + "".join(f"; {each}" for each in told)


def _text(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else to_text(moment_ns)
