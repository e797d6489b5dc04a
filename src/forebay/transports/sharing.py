"""Who of a group reads which lane, for transports that leave that to their members. Pure."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def share_out(readers: Mapping[str, Collection[str]], owners: Mapping[str, str]) -> dict[str, str]:
    """Return the member that each lane is to belong to: as many to each, and few change hands.

    ``readers`` has the lanes that each member would read, ``owners`` the member that has a lane
    now. Whoever asks with the same gets the same.
    """
    shared = {lane: owner for lane, owner in owners.items() if lane in readers.get(owner, ())}
    load = Counter(shared.values())

    def least(lane: str) -> str:
        return min((load[each], each) for each, lanes in readers.items() if lane in lanes)[1]

    for lane in sorted({*chain.from_iterable(readers.values())} - shared.keys()):
        shared[lane] = least(lane)
        load[shared[lane]] += 1
    while shared:
        uneven, lane = max(
            (load[owner] - load[least(lane)], lane) for lane, owner in shared.items()
        )
        if uneven <= 1:
            break
        other = least(lane)
        load.update({shared[lane]: -1, other: 1})
        shared[lane] = other
    return shared
