"""Streams of JetStream as Forebay makes them, and what says which stream one is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.domain.kinds import KINDS
from forebay.transports.subjects import subject_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTROL = "_forebay"
"""First token of the subjects of what is no event: who listens to ``trades.>`` gets events only."""
GROUPS = "forebay_groups"
"""The stream that keeps how far each group has got in each lane: one message for each."""
MEMBERS = "forebay_members"
"""The stream in which members of groups say that they are there: it forgets who does not."""
TURNED_BACK = "forebay_turned_back"
"""Metadata of a stream that was found to be an older copy of itself: some text, new each time."""
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the configuration says of streams that are made."""

    replicas: int = 1
    max_age_ns: int = 7 * DAY_NS
    duplicate_window_ns: int = 120 * 10**9
    max_bytes: int = -1
    """-1: as much as the account may have."""
    session_ns: int = 10 * 10**9
    """A member of a group that is not heard of for so long has lost its lanes."""


def control_subject(lane: str) -> str:
    """Return where records of a lane go that are no events of its kinds."""
    return f"{CONTROL}.{lane}"


def subjects_of(topic: str) -> list[str]:
    """Return the subjects of a topic's stream.

    They have as many tokens as its events have: ``bars.{symbol}.{timeframe}``, which is not kept,
    is none of them.
    """
    found = {control_subject(topic)}
    for kind in KINDS.values():
        if kind.topic == topic:
            tokens = 3 if "timeframe" in kind.schema.names else 2
            found.add(".".join([subject_prefix(kind), *"*" * tokens]))
    return sorted(found)


def stream_of(topic: str, limits: StreamLimits) -> dict[str, Any]:
    """Return the configuration of a topic's stream: full, it refuses; nothing is dropped."""
    return {
        "name": topic,
        "subjects": subjects_of(topic),
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "num_replicas": limits.replicas,
        "max_age": limits.max_age_ns,
        "max_bytes": limits.max_bytes,
        "duplicate_window": min(limits.duplicate_window_ns, limits.max_age_ns),
        "allow_direct": True,
        "allow_atomic": True,
    }


def stream_of_groups(limits: StreamLimits) -> dict[str, Any]:
    """Return the configuration of :data:`GROUPS`."""
    return {
        "name": GROUPS,
        "subjects": [f"{GROUPS}.*.*"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": limits.replicas,
        "max_msgs_per_subject": 1,
    }


def stream_of_members(limits: StreamLimits) -> dict[str, Any]:
    """Return the configuration of :data:`MEMBERS`."""
    return {
        "name": MEMBERS,
        "subjects": [f"{MEMBERS}.*.*"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": limits.replicas,
        "max_msgs_per_subject": 1,
        "max_age": limits.session_ns,
        "duplicate_window": min(limits.session_ns, limits.duplicate_window_ns),
    }


def differences(
    wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Return each setting that a stream has otherwise: its name, as wanted and as it is."""
    for name, value in wanted.items():
        has = found.get(name)
        if (sorted(has or ()) if isinstance(value, list) else has or False) != (value or False):
            yield name, str(value), str(has)


def identity_of(info: Mapping[str, Any]) -> str:
    """Return which stream of its name it is."""
    turned = (info["config"].get("metadata") or {}).get(TURNED_BACK, "")
    return "@".join(filter(None, (info["config"]["name"], info["created"], turned)))
