"""What processes tell of their streams each second: nothing, unless something is new.

Telling of a stream costs both sides as much as a breaker does, and there may be thousands of them
that say nothing for hours.
"""

from __future__ import annotations

import heapq
import operator
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from forebay.app.processes import samples
from forebay.ops.view import StreamReport, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.domain.coverage import StreamKey
    from forebay.ops.view import ProcessReport, Sample

KNOWN = "streams_known"
"""The part of a request for a report that names what the asker knows of streams."""
LATER = "later"
"""It wants to know no more now."""
MOST_TOLD = 20_000
"""Streams that are told of what was heard; a process that took longer would seem to be down."""
STREAMS_PER_S = 500
"""So many are told in a second at most: of a thousand that all change, all in each other one."""


def reports_of_heard(heard: Mapping[StreamKey, int]) -> list[StreamReport]:
    """Return when each stream was heard last, of too many those that were heard last.

    Markets of a quarter of an hour leave hundreds of thousands behind. 0: none since the start.
    """
    told = heapq.nlargest(MOST_TOLD, heard.items(), key=operator.itemgetter(1))
    return [StreamReport(**key._asdict(), heard_ns=ns or None) for key, ns in told]


@dataclass(frozen=True, slots=True)
class StreamsTold:
    """The side of a process."""

    changes: Callable[[], object]
    """Returns what is another after each change."""
    told: Callable[[], list[StreamReport]]

    def added(self, report: ProcessReport, request: Mapping[str, Any]) -> ProcessReport:
        """Return ``report`` with streams, if whoever asked does not know them as they are."""
        known, mark = request.get(KNOWN, ""), f"{os.getpid()} {self.changes()}"
        if known == LATER:
            return report
        return replace(report, streams_mark=mark, streams=() if known == mark else self.told())


@dataclass(slots=True)
class StreamsKnown:
    """The side of whoever asks one process."""

    _mark: str = ""
    _streams: Sequence[StreamReport] = ()
    _due_ns: int = 0

    def asked(self, now_ns: int) -> dict[str, str]:
        """Return what to add to a request at some monotonic time."""
        return {KNOWN: self._mark if now_ns >= self._due_ns else LATER}

    def added(self, report: ProcessReport, now_ns: int) -> ProcessReport:
        """Return ``report`` with all streams of its process."""
        if report.streams_mark not in ("", self._mark):
            self._mark, self._streams = report.streams_mark, report.streams
            self._due_ns = now_ns + len(self._streams) * 1_000_000_000 // STREAMS_PER_S
        return replace(report, streams=self._streams) if self._mark else report


@dataclass(slots=True)
class StreamCounts:
    """How many streams are in each state, counted anew when one of some reports has changed."""

    _of: list[tuple[bool, Sequence[StreamReport]]] = field(default_factory=list)
    _samples: list[Sample] = field(default_factory=list)

    def samples(self, told: Sequence[ProcessReport]) -> list[Sample]:
        """Return the samples of streams."""
        of = [(report.hears, report.streams) for report in told]
        same = len(of) == len(self._of) and all(
            hears is heard and streams is known
            for (hears, streams), (heard, known) in zip(of, self._of, strict=True)
        )
        if not same:
            self._of, self._samples = of, samples.streams(merged(told))
        return self._samples
