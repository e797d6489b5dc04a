"""Drills of history: a simulated Massive, and ``forebay backfill`` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from forebay.app.reader import Data
from forebay.lab import faults
from forebay.lab.commands import until
from forebay.lab.drills.acts import trouble
from forebay.lab.drills.stage import Stage, environment, toml
from forebay.lab.drills.watch import disk_bytes
from forebay.lab.exchanges.massive import VENUE as MASSIVE
from forebay.lab.exchanges.massive.rest import CORRUPT, SHORT
from forebay.lab.exchanges.massive.spoilt import HOUR_MS, Spoilt, way
from forebay.lab.exchanges.massive.truth import ForexBar
from forebay.lab.truth import TruthDigest
from forebay.lab.truth.histories import BEGIN_MS, MINUTE_MS, MadeBars
from forebay.lab.truth.texts import uuid_text
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from forebay.lab.drills.plan import HistoryAct, Value

ROWS: Final = 500
"""Bars of a page: so few that a fault strikes in the middle of a pair."""
SILENT_S: Final = 60.0
"""So long nobody asks after a 429 that names no time: calls are counted by the minute."""
_MS = 1_000_000
_STORED = "SELECT event_id::VARCHAR AS id, symbol, epoch_ms(open_ts) AS opened FROM bars"


@dataclass(slots=True)
class HistoryStage(Stage):
    """One run of a drill whose act is a download."""

    served: ClassVar[str] = MASSIVE.name
    download: asyncio.subprocess.Process | None = field(default=None, repr=False)
    """The command that was begun last."""

    async def play(self, act: HistoryAct) -> None:
        """Set up, act, and compare what is stored with what history has."""
        async with self.exchange() as urls:
            self._configured(urls)
            await self.trouble(SHORT, {"rows": ROWS})
            try:
                with self.noting_errors():
                    await act(self)
            finally:
                await self._killed()
            self.watch.disk = await asyncio.to_thread(disk_bytes, self.data.root)
            with self.noting_errors():
                await asyncio.to_thread(self._compare)

    async def _killed(self) -> None:
        """End what still runs."""
        if self.download is not None and self.download.returncode is None:
            self.download.kill()
            await self.download.wait()

    def _market(self) -> tuple[str, ...]:
        symbols, count = self.drill.symbols, self.drill.bars
        bars = ",".join(f"{symbol}={count}" for symbol in symbols)
        return "--seed", str(self.seed), "--symbols", ",".join(symbols), "--bars", bars

    def _configured(self, urls: Mapping[str, Any]) -> None:
        venue = self.table(self.root, urls, self.drill.symbols)
        parts = [f"data = {json.dumps(str(self.data.root))}\n"]
        parts += [toml(f"[{name}]", table) for name, table in self.drill.config.items()]
        self.config.write_text("\n".join([*parts, toml("[[venues]]", venue)]), encoding="utf-8")

    @classmethod
    def table(cls, root: Path, urls: Mapping[str, Any], pairs: Sequence[str]) -> dict[str, Value]:
        """Return how the simulated venue is reached; its key is written below ``root``."""
        secrets = root / "secrets.toml"
        secrets.write_text(toml("", dict(MASSIVE.secrets)), encoding="utf-8")
        return {
            "name": cls.served,
            "market": "forex",
            "symbols": list(pairs),
            "ws_url": f"{urls['ws_url']}/{{market}}",
            "rest_url": urls["rest_url"],
            "credentials_file": str(secrets),
        }

    @classmethod
    def wanted(cls, bars: int, pairs: Sequence[str]) -> tuple[str, ...]:
        """Return the options that name all that history has."""
        ends = (to_text(ms * _MS) for ms in (BEGIN_MS, BEGIN_MS + bars * MINUTE_MS))
        symbols = [word for each in pairs for word in ("--symbol", each)]
        since, until = ends
        told = ("--venue", cls.served, "--market", "forex", "--timeframe", "1m", *symbols)
        return *told, "--from", since, "--to", until

    # ------------------------------------------------------------ our commands

    async def begin(self, verb: str = "backfill", *more: str) -> asyncio.subprocess.Process:
        """Start a command about all that history has."""
        wanted = self.wanted(self.drill.bars, self.drill.symbols)
        return await self._started(verb, *wanted, *more)

    async def _started(self, *arguments: str) -> asyncio.subprocess.Process:
        self.say(arguments[0])
        self.download = await asyncio.create_subprocess_exec(
            *self.command,
            *(*arguments, "--json", "-c", str(self.config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
        return self.download

    async def ended(self) -> Any:  # noqa: ANN401 - a document can be anything
        """Wait for what was begun last; return its document, None if it has none."""
        assert self.download is not None  # noqa: S101 - it was begun
        reading, pid = asyncio.ensure_future(self.download.communicate()), self.download.pid

        async def look() -> bool | None:
            self.watch.measure([pid])
            return reading.done() or None

        try:
            await until(self.clock, look, "a command to end", self.timing.patience_s + SILENT_S)
        finally:
            await self._killed()
        out, _ = await reading
        return json.loads(out) if out.strip() else None

    async def gaps(self, verb: str) -> Any:  # noqa: ANN401
        """Return what ``forebay gaps`` says."""
        await self._started("gaps", verb)
        return await self.ended()

    async def complete(self) -> None:
        """Check that the download ends by itself, and that everything was answered."""
        document = await self.ended()
        whole = document is not None and document["complete"]
        self.check("the download ends, and everything was answered", ok=whole)

    async def asked(self, pages: int) -> None:
        """Wait until so many more requests came than now, or the download has ended."""
        enough = (await self.truth())["rest_requests"] + pages

        async def look() -> bool | None:
            over = self.download is None or self.download.returncode is not None
            return over or (await self.truth())["rest_requests"] >= enough or None

        await until(self.clock, look, "pages to be asked for", self.timing.patience_s)

    async def struck(self, name: str, times: int) -> None:
        """Wait until a trouble struck so often."""

        async def look() -> bool | None:
            return len(await self.hits(name)) >= times or None

        await until(self.clock, look, f"{name} to strike", self.timing.patience_s + SILENT_S)

    # ------------------------------------------------------------ what is so, and what should

    def recovers(self) -> None:
        """Note how long it took from the end of the fault until now."""
        if self._over_ns is not None:
            passed_ns = self.clock.monotonic_ns() - self._over_ns
            self.report.recovery_s = round(passed_ns / 1e9, 2)

    def _compare(self) -> None:
        """Report what is missing, doubled or altered, each bar by its id, and the digests."""
        report, data = self.report, Data(self.data.root)
        audit = data.audit_report()
        said = "".join(f": {problem.text}" for problem in audit.problems)
        self.check(f"the audit is green{said}", audit.ok)
        rows = data.sql(_STORED).to_pylist()
        report.stored = len(rows)
        for symbol in self.drill.symbols:
            bars = true_bars(symbol, self.drill.bars, self.seed)
            ids = {uuid_text(bar.event_id) for bar in bars.values()}
            mine = [row for row in rows if row["symbol"] == symbol]
            opens = Counter(row["opened"] for row in mine)
            report.produced += len(bars)
            report.missing += len(bars.keys() - opens.keys())
            report.doubled += len(mine) - len(opens)
            report.mutated += len({row["id"] for row in mine} - ids)
            digest = TruthDigest.of(bars.values()).document()
            stages = [each.stages["store"] for each in audit.streams if each.symbol == symbol]
            found = [{"count": s.count, "ids": s.ids, "rows": s.rows} for s in stages]
            self.check(f"count and digest of {symbol} are history's", ok=found == [digest])


def true_bars(symbol: str, count: int, seed: int) -> dict[int, ForexBar]:
    """Return the bars that history has, by when they open in milliseconds."""
    found = {}
    for index, made in enumerate(MadeBars(symbol, count, seed=seed).between(BEGIN_MS, 1 << 62)):
        ends = made.open_ms * _MS, (made.open_ms + MINUTE_MS) * _MS
        found[made.open_ms] = ForexBar(index, MASSIVE.name, symbol, *ends, *made[1:])
    return found


# --------------------------------------------------------------------- REST in trouble


async def _troubled(
    stage: HistoryStage, name: str, settings: Mapping[str, int] | None = None, hits: int = 4
) -> None:
    """Have a trouble strike in the middle of the pairs, and go on for a while."""
    await stage.begin()
    await stage.asked(pages=4)
    async with trouble(stage, name, settings):
        await stage.struck(name, hits)
        await stage.last()
    await stage.complete()
    stage.recovers()


FORMS = 7
"""In which a 429 comes; see :data:`forebay.lab.faults.ABOUT`."""


async def rate_limited(stage: HistoryStage) -> None:
    """History is rate-limited in the middle of a pair: 429 in all forms."""
    await stage.begin()
    await stage.asked(pages=4)
    async with trouble(stage, faults.TOO_MANY, {"retry_after_s": 1}):
        for form in range(FORMS):
            before = len(await stage.hits(faults.TOO_MANY))
            await stage.trouble(faults.TOO_MANY, {"form": form})
            await stage.struck(faults.TOO_MANY, before + 1)
    await stage.complete()
    stage.recovers()


BAN_S = 3
PAIRS = 2
"""Each has one page under way; of a ban that is told to one the other may not know yet."""


async def banned(stage: HistoryStage) -> None:
    """History bans the address: 418 that says until when."""
    await _troubled(stage, faults.BAN, {"ban_s": BAN_S}, hits=PAIRS + 1)
    moments = await stage.hits(faults.BAN)
    later = zip(moments, moments[PAIRS:], strict=False)
    honoured = all(after - before >= 0.9 * BAN_S * 1e9 for before, after in later)
    stage.check(f"nobody came sooner in {len(moments)} requests", ok=honoured)


async def hanging(stage: HistoryStage) -> None:
    """History takes requests and never answers."""
    await _troubled(stage, faults.HANG)


async def page_for_people(stage: HistoryStage) -> None:
    """History answers 200 with a page for people."""
    await _troubled(stage, faults.PAGE, {"status": 200})


# --------------------------------------------------------------------- bars that cannot be

EVERY = 97
"""One bar of so many is corrupt."""
REASONS: Final[Mapping[Spoilt, str]] = MappingProxyType(
    {
        Spoilt.IMPOSSIBLE: "bad_price",
        Spoilt.NO_OPEN: "missing_field",
        Spoilt.NO_VOLUME: "missing_field",
        Spoilt.NULL: "wrong_type",
        Spoilt.SECONDS: "bad_time",
        Spoilt.FAR: "bad_time",
        Spoilt.NEGATIVE: "bad_price",
        Spoilt.NEGATIVE_VOLUME: "bad_size",
        Spoilt.NOUGHT: "bad_price",
    }
)
_OPEN_H = ((22, 118), (166, 168))
"""Hours from :data:`BEGIN_MS` in which the week of forex is open: New Year's Day ends on Monday at
17:00 in New York, as the week does on Friday; it goes on on Sunday."""


def corrupt(bars: int) -> tuple[Counter[str], set[int]]:
    """Return what dead letters there must be by reason, and when the bars open that cannot be had.

    A bar in a zone behind is outside of its page, or takes the place of another: nobody knows then
    which of both it is.
    """
    reasons: Counter[str] = Counter()
    lacking = set()
    for index in range(bars):
        turn = BEGIN_MS // MINUTE_MS + index
        if turn % EVERY:
            continue
        lacking.add(BEGIN_MS + index * MINUTE_MS)
        what = way(turn // EVERY)
        if what is not Spoilt.ZONE:
            reasons[REASONS[what]] += 1
        elif index % ROWS < HOUR_MS // MINUTE_MS:
            reasons["bad_time"] += 1
        else:
            reasons["bad_value"] += 2
            lacking.add(BEGIN_MS + index * MINUTE_MS - HOUR_MS)
    return reasons, lacking


async def corrupt_bars(stage: HistoryStage) -> None:
    """History tells bars that cannot be, of every kind, and mends later."""
    reasons, lacking = corrupt(stage.drill.bars)
    pairs = len(stage.drill.symbols)
    expected = sum(
        any(first <= (each - BEGIN_MS) / HOUR_MS < end for first, end in _OPEN_H)
        for each in lacking
    )
    async with trouble(stage, CORRUPT, {"every": EVERY}):
        await stage.begin()
        await stage.complete()
        letters = await asyncio.to_thread(_letters, stage)
        wanted = {reason: count * pairs for reason, count in reasons.items()}
        stage.check(f"dead letters by reason are {letters}, wanted {wanted}", letters == wanted)
        found = [each["missing"] for each in await stage.gaps("check")]
        what = f"the gap check misses {found}, of each {expected} while the market was open"
        stage.check(what, ok=found == [expected] * pairs)
    stage.report.withheld = len(lacking) * pairs
    counts = await stage.gaps("fill")
    stage.check(f"gaps are filled: {counts}", ok=bool(counts) and counts["open"] == 0)
    await stage.begin("verify", "--repair")
    verified = await stage.ended()
    stage.check("verification has the rest asked for", ok=bool(verified) and verified["same"])
    stage.recovers()


def _letters(stage: HistoryStage) -> dict[str, int]:
    query = "SELECT reason, count(*) AS n FROM dead_letters GROUP BY ALL"
    return {row["reason"]: row["n"] for row in Data(stage.data.root).sql(query).to_pylist()}


# --------------------------------------------------------------------- processes

KILLS = 10


async def download_killed(stage: HistoryStage) -> None:
    """The download is killed with SIGKILL ten times in the middle of a pair."""
    killed = 0
    for number in range(KILLS):
        download = await stage.begin()
        await stage.asked(pages=1 + number % 4)
        with contextlib.suppress(ProcessLookupError):
            download.kill()
        stage.say(f"killed download {number + 1}")
        await download.communicate()
        killed += int(download.returncode == -signal.SIGKILL)
    stage.fault_over(killed)
    stage.check(f"{killed} of {KILLS} downloads were killed before they ended", killed == KILLS)
    await stage.begin()
    await stage.complete()
    stage.recovers()
