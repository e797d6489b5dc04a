"""The whole audit: one snapshot of the store, the journal up to its cursor, then the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.services.audit import gap_rules, sql, store_stage
from forebay.services.audit.accounts import snapshot_from
from forebay.services.audit.journal_stage import JournalStage
from forebay.services.audit.report import AuditReport, Problem
from forebay.services.audit.sql import Span
from forebay.services.audit.truth import Truth
from forebay.services.audit.truth_stage import Look, TruthStage
from forebay.services.audit.verdict import Audited, report_of
from forebay.services.ledger import read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.ports import Parser
    from forebay.services.audit.scratch import OpenScratch, Query

Use = Literal["auto", "frames", "ledger"]
_CLOCK = SystemClock()
_MILLISECOND_NS = 1_000_000


def run_audit(
    query: Query,
    journal_folder: Path,
    parsers: Mapping[str, Parser],
    *,
    scratch: OpenScratch,
    ledger_folder: Path | None = None,
    source: Use = "auto",
    since_ns: int | None = None,
    until_ns: int | None = None,
    truth: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock = _CLOCK,
) -> AuditReport:
    """Compare a store with the journal that it was made from, and with the truth if there is one.

    The store may be moving: every statement answers its cursor with its rows, and the
    journal is projected exactly that far.

    Args:
        query: runs one reading statement on the store.
        journal_folder: where the journal's segments are.
        parsers: by venue; the journal's frames are projected with them.
        scratch: opens a private database, such as ``open_scratch`` of the DuckDB store.
        ledger_folder: where the ledger is; None: frames only.
        source: ``auto`` takes the ledger's word as far as it reaches and projects the frames
            behind it, ``ledger`` is the same and insists that there is one, ``frames`` projects
            every frame that is kept.
        since_ns: audit events from this ``event_ts`` on, UTC nanoseconds.
        until_ns: audit events before this ``event_ts``, UTC nanoseconds.
        truth: a simulator's ``truth_url``. Audit once it has finished and all is delivered,
            or what is still under way counts as missing.
        progress: told ``(done, total)`` bytes of the journal.
        clock: for how long it took.

    Raises:
        ConfigError: ``truth`` is no address, or there is no ledger and it was insisted on.
        Unreachable: the store or the truth server does not answer.
        Transient: the store was rebuilt meanwhile, or scratch space ran out.
    """
    began = clock.monotonic_ns()
    span = Span(since_ns, until_ns)
    server = Truth(truth) if truth else None
    with scratch() as box:
        before = Look.at(server) if server else None
        snapshot = snapshot_from(query(sql.snapshot(span)))
        after = Look.at(server) if server else None
        with JournalStage(journal_folder, parsers, box, clock, progress) as journal:
            cursor = snapshot.cursor.seq if snapshot.cursor else 1
            _use_ledger(journal, ledger_folder, source, cursor, clock)
            reached = journal.advance(cursor)
            audit = Audited(span, snapshot, journal)
            if server and before and after:
                audit.truth = TruthStage(server, before, after)
            if not reached:
                audit.problems.append(_too_short(audit))
            _compare(audit, store_stage.Rows(query, box, journal, snapshot, span))
            took_ms = (clock.monotonic_ns() - began) // _MILLISECOND_NS
            return report_of(audit, took_ms)


def _use_ledger(
    journal: JournalStage, folder: Path | None, source: Use, cursor: int, clock: Clock
) -> None:
    if source == "frames":
        return
    entries = [] if folder is None else read_ledger(folder, clock)
    if entries and journal.use(entries, cursor):
        return
    what = f"The ledger {folder} is of another journal." if entries else "There is no ledger yet."
    if source == "ledger":
        raise ConfigError(what, hint="Audit with `--from auto` or `--from frames`.")
    if entries:
        journal.notes.append(f"{what} Frames were read instead.")


def _too_short(audit: Audited) -> Problem:
    cursor = audit.snapshot.cursor
    wanted = cursor.seq if cursor else 1
    text = f"The journal ends at {audit.journal.seq}, the store has consumed it up to {wanted}."
    return Problem("journal_short", "", wanted - audit.journal.seq, [], text)


def _compare(audit: Audited, rows: store_stage.Rows) -> None:
    """Fill in what is wrong with each stream, and with the gaps."""
    snapshot, truth = audit.snapshot, audit.truth
    audit.problems += _letters(audit)
    store_stage.compare(rows, audit.hours, audit.found)
    for key in audit.streams():
        found, window = audit.found[key], audit.window(key)
        store_stage.believe_nothing(key, snapshot, window, found)
        audit.problems += gap_rules.stays_open(key, snapshot, window)
        if audit.whole_journal and not found.unseen:
            ours = audit.gaps.get(key, [])
            audit.problems += gap_rules.against_journal(key, snapshot, ours, window)
        if truth and key.venue == truth.before.status.venue:
            audit.problems += truth.judge(key, snapshot, window, rows, found)
        found.settle()


def _letters(audit: Audited) -> list[Problem]:
    """Dead letters are those of the journal, and those that were injected."""
    stored, ours, problems = audit.snapshot.letters, audit.letters, []
    if stored < ours or (stored > ours and audit.whole_journal):
        text = f"{stored} dead letters are stored and the journal has {ours}."
        problems.append(Problem("dead_letters", "", abs(stored - ours), [], text))
    if audit.truth and audit.span.whole:
        problems += audit.truth.poison(stored)
    return problems
