"""What was asked for and nobody hears is not complete, though no gap can say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.domain.digest import HOUR_NS
from forebay.domain.frames import EVERY_SYMBOL
from forebay.services.audit.report import Problem, iso

if TYPE_CHECKING:
    from collections.abc import Collection

    from forebay.domain.coverage import StreamKey
    from forebay.services.audit.case import Case

NOT_GIVEN, NEVER_HEARD = "not_given", "never_heard"
GRACE_NS = 10_000_000_000
"""So long after it was asked for, a stream need not have been heard."""
POLLED_NS = 300_000_000_000
"""So long one that counts no unit: those are polled, such as the bar of a minute that is over."""


def judge_asked(case: Case) -> None:
    """Note the streams that are asked for, and refused or never heard."""
    asked, since, until = case.roll.streams(), case.span.since, case.span.until
    told = {stream for stream, _ in case.account.hours}
    told.update(stream for stream, hours in case.hours.items() if hours)
    for key, at_ns in sorted(asked.items()):
        if until is not None and at_ns >= until * HOUR_NS:
            continue
        if reason := case.roll.refusal(key):
            told_ns = case.roll.answers[key].at_ns
            said = f"refused, last at {iso(told_ns)}: {reason.rstrip('.')}"
            text = f"{key.name}: asked for, and {said}. If it is a mistake, start again without it."
            case.problems.append(Problem(NOT_GIVEN, key.name, 1, [], text))
        elif (
            since is None
            and case.latest_ns - at_ns > _grace_ns(case, key)
            and not _heard(case, key, told)
        ):
            text = f"{key.name}: asked for since {iso(at_ns)}, and nothing of it was ever heard."
            case.problems.append(Problem(NEVER_HEARD, key.name, 1, [], text))


def _grace_ns(case: Case, key: StreamKey) -> int:
    channel = case.channel(key)
    return POLLED_NS if channel is not None and channel.unit == "none" else GRACE_NS


def _heard(case: Case, key: StreamKey, told: Collection[StreamKey]) -> bool:
    """Return whether an event ever came, or something says that there was none to come.

    That is a number that is said to exist, or a stream that is said to be owed and was listened to.
    """
    if key.symbol == EVERY_SYMBOL:
        return any(stream[:3] == key[:3] for stream in told)
    if key in told:
        return True
    coverage = case.coverage.get(key)
    counted = coverage is not None and coverage.unit == "id" and any(coverage.rows())
    return counted or (coverage is not None and coverage.vouched)
