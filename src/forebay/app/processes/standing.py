"""How the streams that are asked for stand, in one line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.ops.view import StreamReport

NAMED = 3
"""So many streams are named in one line."""


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
