"""An audit of what the exam captured, by edition and stream."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from forebay.clock import SystemClock
from forebay.services.audit import run_audit
from tests.exam.made.protocol import EDITIONS, POLLED
from tests.exam.offline import parsers
from tests.exam.server import REFUSED
from tests.exam.wire import STREAMS

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.ports import Audited
    from forebay.services.audit import AuditReport, StreamAudit, Use
    from tests.exam.made.protocol import Edition


class Findings:
    """A report by stream."""

    def __init__(self, report: AuditReport) -> None:
        self.report = report
        self._streams: dict[tuple[str, str, str], StreamAudit] = {
            (stream.venue, stream.channel, stream.symbol): stream for stream in report.streams
        }
        self._problems: dict[str, set[str]] = defaultdict(set)
        for problem in report.problems:
            self._problems[problem.stream].add(problem.kind)

    def only_refused(self) -> bool:
        """Return whether nothing is wrong but that the venues do not give one symbol."""
        wrong = {(problem.kind, problem.stream) for problem in self.report.problems}
        kinds = (*dict(STREAMS), POLLED)
        return wrong == {
            ("not_given", f"{edition.venue}/{kind}/{REFUSED}")
            for edition in EDITIONS
            for kind in kinds
        }

    def stream(self, edition: Edition, stream: tuple[str, str]) -> StreamAudit:
        """Return what is said of one stream of an edition."""
        return self._streams[edition.venue, *stream]

    def problems(self, edition: Edition, stream: tuple[str, str]) -> set[str]:
        """Return the kinds of problems that one stream of an edition has."""
        return self._problems[self.stream(edition, stream).name]


def audit(
    store: Audited, folder: Path, source: Use = "frames", ledger: Path | None = None
) -> Findings:
    """Compare a store with the journal in ``folder``, or with the ledger."""
    report = run_audit(
        store, folder, parsers(EDITIONS), ledger_folder=ledger, source=source, clock=SystemClock()
    )
    return Findings(report)
