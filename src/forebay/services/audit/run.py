"""The whole audit: the store's account, the journal up to its position, then the verdict."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Literal

from forebay.clock import SystemClock
from forebay.domain.digest import HOUR_NS
from forebay.errors import ConfigError
from forebay.ports import Span
from forebay.services.audit.case import Case
from forebay.services.audit.compare import Comparison
from forebay.services.audit.journal_stage import JournalStage
from forebay.services.audit.judge import judge_asked, judge_stream, report_of
from forebay.services.audit.report import AuditReport, Problem
from forebay.services.audit.truth import TruthStage
from forebay.services.ledger import read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forebay.clock import Clock
    from forebay.ports import Audited, Parser
    from forebay.services.audit.truth import Truth

Use = Literal["auto", "frames", "ledger"]
_CLOCK = SystemClock()
_MILLISECOND_NS = 1_000_000


def run_audit(
    store: Audited,
    journal_folder: Path,
    parsers: Mapping[str, Parser],
    *,
    ledger_folder: Path | None = None,
    source: Use = "auto",
    since_ns: int | None = None,
    until_ns: int | None = None,
    truth: Truth | None = None,
    arrive: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], object] = lambda *_: None,
    clock: Clock = _CLOCK,
) -> AuditReport:
    """Compare a store with the journal that it was made from, and with the truth if there is one.

    The store may be moving: every answer says its position, and the journal is projected exactly
    that far. With ``source`` ``auto`` the ledger's word is taken as far as it reaches, and the
    frames behind it are projected; ``ledger`` insists that there is one, ``frames`` projects
    every frame that is kept. Whole hours are audited: ``since_ns`` is rounded down, ``until_ns``
    up. ``arrive`` is called once what the truth owes is known: it returns when that had time to
    arrive. ``progress`` is told ``(done, total)`` bytes of the journal.

    Raises :class:`~forebay.errors.ConfigError` if there is no ledger and it was insisted on,
    :class:`~forebay.errors.Unreachable` if the store or the truth does not answer, and
    :class:`~forebay.errors.Transient` if the store was rebuilt or frames retired meanwhile.
    """
    began = clock.monotonic_ns()
    since = None if since_ns is None else since_ns // HOUR_NS
    span = Span(since, None if until_ns is None else -(-until_ns // HOUR_NS))
    stage = TruthStage(truth) if truth else None
    if stage:
        arrive()
    account = store.account(span)
    if stage:
        stage.look_again()
    with closing(JournalStage(journal_folder, parsers, clock, progress)) as journal:
        seq = account.position.seq if account.position else 1
        _use_ledger(journal, ledger_folder, source, seq, clock)
        reached = journal.advance(seq)
        case = Case(span, account, journal, parsers, stage)
        if not reached:
            end = journal.record.end
            text = f"The journal ends at {end}, the store has consumed it up to {seq}."
            case.problems.append(Problem("journal_short", "", seq - end, [], text))
        _judge(case, Comparison(store, case))
        return report_of(case, (clock.monotonic_ns() - began) // _MILLISECOND_NS)


def _use_ledger(
    journal: JournalStage, folder: Path | None, source: Use, seq: int, clock: Clock
) -> None:
    if source == "frames":
        return
    entries = [] if folder is None else read_ledger(folder, clock)
    if entries and journal.use(entries, seq):
        return
    what = f"The ledger {folder} is of another journal." if entries else "There is no ledger yet."
    if source == "ledger":
        raise ConfigError(what, hint="Audit with `--from auto` or `--from frames`.")
    if entries:
        journal.notes.append(f"{what} Frames were read instead.")


def _judge(case: Case, comparison: Comparison) -> None:
    """Find what is wrong with dead letters, events, coverage and gaps."""
    stored, ours = case.account.letters, case.letters
    if stored < ours or (stored > ours and case.whole_journal):
        text = f"{stored} dead letters are stored and the journal has {ours}."
        case.problems.append(Problem("dead_letters", "", abs(stored - ours), [], text))
    if case.truth and case.span.whole:
        case.truth.judge_letters(case)
    comparison.run()
    for key in case.streams():
        judge_stream(case, key)
        if case.truth:
            case.truth.judge(case, key, comparison)
    judge_asked(case)
    for found in case.found.values():
        found.settle()
