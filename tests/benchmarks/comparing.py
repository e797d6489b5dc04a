"""What the figures of two trees say: whose turn it is, what is noise, what both have.

Nothing here measures or runs anything; ``compare.py`` does, and says how to read the answer.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.benchmarks.alone import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Measure = Callable[[str, str], Mapping[str, Any]]
    """What alone.py says of a side (the first) and a benchmark (the second)."""

BASE, HEAD = "base", "head"
LIMIT = 10.0
"""Per cent beyond noise."""
_CHANCE = 0.05
_FLOORS = {"MB": 1.0}
"""Growth of less memory than this counts as this much: nothing can be divided by none."""


class Failed(Exception):
    """A command did not do what it was run for; the text says why."""


# ---------------------------------------------------------------- statistics


def turns(rounds: int) -> list[str]:
    """Return whose turn it is: B H H B B H H B ..., so that a drift meets both alike."""
    return [
        side for number in range(rounds) for side in ((HEAD, BASE) if number % 2 else (BASE, HEAD))
    ]


def at_least(hits: int, tries: int, chance: float) -> float:
    """Return how likely ``hits`` or more are in so many tries."""
    each = (
        math.comb(tries, k) * chance**k * (1 - chance) ** (tries - k)
        for k in range(hits, tries + 1)
    )
    return sum(each)


def dissenters(rounds: int) -> int:
    """Return how many rounds may say otherwise; -1 if even all of them could agree by chance."""
    allowed = (k for k in range(rounds) if at_least(rounds - k, rounds, 0.5) <= _CHANCE)
    return max(allowed, default=-1)


def strays(control: Sequence[float], rounds: int) -> float:
    """Return the log ratio beyond which a median of ``rounds`` is one time in twenty at most.

    ``control`` are log ratios of the same tree; each could as well have been its opposite.
    """
    sizes = sorted(map(abs, control), reverse=True)
    larger = (at / (2 * len(sizes)) for at in range(len(sizes)))  # on one side, of both
    tails = (2 * at_least((rounds + 1) // 2, rounds, share) for share in larger)
    return min(size for size, tail in zip(sizes, tails, strict=True) if tail <= _CHANCE)


def same_tree(base: Sequence[float], head: Sequence[float]) -> list[float]:
    """Return the ratios, later over earlier, of neighbours in time that are of one tree."""
    figures = {BASE: iter(base), HEAD: iter(head)}
    run = [(side, next(figures[side])) for side in turns(len(base))]
    return [later / earlier for (a, earlier), (b, later) in pairwise(run) if a == b]


# ------------------------------------------------------------------ verdicts


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of both trees."""

    benchmark: str
    name: str
    unit: str
    less_is_better: bool
    base: list[float]
    head: list[float]
    ratio: float
    """Head over base: the median of the rounds."""
    noise: float | None
    """By what part a tree would differ from itself; None with one round."""
    verdict: str
    fails: bool
    """Whether it is worse by more than the limit beyond noise."""


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    rows: list[Compared] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be compared, a sentence each."""
    broken: bool = False
    """Whether a benchmark that base ran failed in head."""

    @property
    def passes(self) -> bool:
        """Whether nothing is broken and no row is worse by more than the limit."""
        return not self.broken and not any(row.fails for row in self.rows)


def compare(
    benchmark: str, base: Sequence[Figure], head: Sequence[Figure], limit: float = LIMIT
) -> Compared:
    """Judge a row by what it was in each round of both trees."""
    (name, _, unit, less), floor = head[0], _FLOORS.get(head[0].unit, 1e-9)
    old, new = ([max(figure.value, floor) for figure in figures] for figures in (base, head))
    ratios = [after / before for before, after in zip(old, new, strict=True)]
    ratio, control = statistics.median(ratios), [math.log(one) for one in same_tree(old, new)]
    noise = math.expm1(strays(control, len(ratios))) if control else None
    verdict, worse_by = judge(ratios, noise, less_is_better=less)
    return Compared(
        benchmark=benchmark,
        name=name,
        unit=unit,
        less_is_better=less,
        base=[figure.value for figure in base],
        head=[figure.value for figure in head],
        ratio=ratio,
        noise=noise,
        verdict=verdict,
        fails=worse_by - (noise or 0.0) > limit / 100,
    )


def judge(
    ratios: Sequence[float], noise: float | None, *, less_is_better: bool
) -> tuple[str, float]:
    """Return the verdict on rounds of head over base, and by what part head is worse, or 0."""
    ratio, allowed = statistics.median(ratios), dissenters(len(ratios))
    if noise is None or allowed < 0:
        return "too few rounds to say", 0.0
    dissent = sum(one <= 1 if ratio > 1 else one >= 1 for one in ratios)
    if dissent > allowed or abs(math.log(ratio)) <= math.log1p(noise):
        return "within noise", 0.0
    by = abs(ratio - 1)
    if (ratio < 1) == less_is_better:
        return f"better by {100 * by:.1f} %", 0.0
    return f"worse by {100 * by:.1f} %", by


def in_one_only(names: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence for each name that one side has and the other has not."""
    sides = {side: list(found) for side, found in names.items()}
    return [
        f"{name}: only in {side}"
        for side, other in ((BASE, HEAD), (HEAD, BASE))
        for name in sides[side]
        if name not in sides[other]
    ]


def run_benchmark(name: str, rounds: int, measure: Measure, limit: float = LIMIT) -> Outcome:
    """Let both trees measure a benchmark in turns, and compare the rows that both have."""
    figures: dict[str, dict[str, list[Figure]]] = {BASE: {}, HEAD: {}}
    notes: list[str] = []
    for side in turns(rounds):
        try:
            answer = measure(side, name)
        except Failed as failure:
            return Outcome(missing=[f"{name}: {failure} in {side}"], broken=side == HEAD)
        notes += [f"{note} ({side})" for note in answer["notes"]]
        for row in answer["rows"]:
            figures[side].setdefault(row[0], []).append(Figure(*row))
    base, head = (
        {row: found for row, found in figures[side].items() if len(found) == rounds}
        for side in (BASE, HEAD)
    )
    return Outcome(
        rows=[compare(name, base[row], head[row], limit) for row in base if row in head],
        missing=[*dict.fromkeys(notes), *in_one_only({BASE: base, HEAD: head})],
    )


# ------------------------------------------------------------------- telling


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _spread(values: Sequence[float]) -> str:
    middle, least, most = (_short(pick(values)) for pick in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.1f} %"


def table(rows: Sequence[Compared]) -> str:
    """Return lines for a person to read."""
    lines = [("benchmark", "row", "unit", "base", "head", "ratio", "A/A", "")]
    for row in rows:
        figures = (row.unit, _spread(row.base), _spread(row.head), f"{row.ratio:.3f}x")
        verdict = row.verdict.upper() if row.fails else row.verdict
        lines.append((row.benchmark, row.name, *figures, _percent(row.noise), verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def five_percent(rows: Sequence[Compared]) -> str:
    """Return what a difference of 5 % means, by this run's own control."""
    noises = {(row.benchmark, row.name): row.noise for row in rows if row.noise is not None}
    if not noises or any(dissenters(len(row.base)) < 0 for row in rows):
        return "Fewer than five rounds say nothing, neither of the trees nor of the noise."
    noisy = [name for (_, name), noise in noises.items() if noise >= _CHANCE]
    return (
        f"A/A, a tree beside itself: {_percent(statistics.median(noises.values()))} in the middle "
        f"row, {_percent(max(noises.values()))} in the noisiest.\n"
        f"A difference of 5 % is more than noise in {len(noises) - len(noisy)} of {len(noises)} "
        f"rows{'; it means nothing in: ' + '; '.join(noisy) if noisy else ''}."
    )
