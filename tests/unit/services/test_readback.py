"""What is wrong with a transport is found by reading it back, and mended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import Digest
from forebay.domain.messages import EventsTold, Mark
from forebay.errors import Transient
from forebay.journal import OS_DISK, StateFile
from forebay.journal.segments import list_segments, segment_path
from forebay.ports import Span
from forebay.services.bridge import Bridge
from forebay.services.readback import SharedTransport, run, tellings
from tests.support.audit_bench import BTC, ETH, bench, native
from tests.support.crossing import content
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import MemoryTransport
from tests.support.published import TRADES, Recorded, recorded, the

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from forebay.domain.messages import Message
    from forebay.services.readback import Findings
    from tests.support.memory_transport import Broker

BITCOIN = StreamKey("coinbase", "spot", "trade", BTC)
ETHER = StreamKey("coinbase", "spot", "trade", ETH)


@pytest.fixture(autouse=True)
def _small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording has some hundred frames: have several stretches and batches of it."""
    for module in ("tellings", "journal", "lane", "run"):
        monkeypatch.setattr(f"forebay.services.readback.{module}.STRETCH", 64)
    monkeypatch.setattr(run, "ROWS_IN_MEMORY", 150)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Recorded]:
    with recorded(tmp_path) as opened:
        opened.publish()
        yield opened


def without(*numbers: int) -> Callable[[pa.Table], pa.Table]:
    """Take events of BTC-USD out of rows."""
    wanted = pa.array(numbers, pa.int64())

    def filtered(rows: pa.Table) -> pa.Table:
        gone = pc.and_(pc.is_in(rows["venue_seq"], wanted), pc.equal(rows["symbol"], BTC))
        return rows.filter(pc.invert(gone))

    return filtered


def dearer(number: int) -> Callable[[pa.Table], pa.Table]:
    """Have an event of BTC-USD cost 1."""

    def changed(rows: pa.Table) -> pa.Table:
        at = rows.column_names.index("price")
        hit = pc.and_(pc.equal(rows["venue_seq"], number), pc.equal(rows["symbol"], BTC))
        price = pc.if_else(hit, pa.scalar(1).cast(rows["price"].type), rows["price"])
        return rows.set_column(at, rows.schema.field(at), price)

    return changed


def count(findings: Findings) -> dict[str, int]:
    sums: dict[str, int] = {}
    for key, digest in findings.hours.items():
        sums[key[0].symbol] = sums.get(key[0].symbol, 0) + digest.count
    return sums


def test_what_was_published_is_found_as_it_was_told(live: Recorded) -> None:
    found = live.look()
    assert found.ok
    assert found.streams == {}
    assert count(found) == {BTC: 301, ETH: 101}, "each once, though some were received twice"
    assert found.rows == 403, "and the poison is a dead letter"


def test_its_digests_are_those_of_the_store(live: Recorded) -> None:
    live.bench.deliver()
    stages = {each.symbol: each.stages for each in live.audit().streams}
    assert {symbol: each["kafka"] == each["store"] for symbol, each in stages.items()} == {
        BTC: True,
        ETH: True,
    }


def test_lanes_are_read_each_for_itself(tmp_path: Path) -> None:
    with recorded(tmp_path, partitions=4) as opened:
        opened.publish()
        assert opened.look().ok
        lane = next(name for name in opened.broker._lanes if opened.messages(name))
        messages = opened.messages(lane)
        opened.replace(messages[:-2] + messages[-1:], lane)
        assert not opened.look().ok


def test_a_deleted_record_is_named(live: Recorded) -> None:
    live.spoil(without(native(120), native(121), native(122), native(260)))
    key, found = the(live.look())
    assert key == BITCOIN
    assert (found.missing.count, found.mutated.count, found.spurious.count) == (4, 0, 0)
    assert found.missing.examples() == [f"{native(120)} to {native(122)}", str(native(260))]


def test_an_altered_record_is_named_with_what_differs(live: Recorded) -> None:
    live.spoil(dearer(native(130)))
    key, found = the(live.look())
    assert (key, found.mutated.count, found.missing.count) == (BITCOIN, 1, 0)
    assert found.how[0].startswith(f"{native(130)}: price is 1.000000000000000000 and should be ")


def test_what_is_told_twice_is_counted_and_no_loss(live: Recorded) -> None:
    messages = live.messages()
    live.replace(messages + messages)
    found = live.look()
    assert found.ok
    assert sum(each.again for each in found.streams.values()) == 402
    assert count(found) == {BTC: 301, ETH: 101}


def invented(rows: pa.Table) -> pa.Table:
    """Have an event be another one."""
    at = rows.column_names.index("event_id")
    numbered = zip(rows["event_id"].to_pylist(), rows["venue_seq"].to_pylist(), strict=True)
    ids = [b"\7" * 16 if number == native(140) else each.bytes for each, number in numbered]
    return rows.set_column(at, rows.schema.field(at), pa.array(ids, pa.uuid()))


def test_a_record_that_nobody_received_is_named(live: Recorded) -> None:
    live.spoil(invented)
    _, found = the(live.look())
    assert found.spurious.examples() == [str(native(140))]
    assert found.missing.examples() == [str(native(140))]
    hours = sorted({hour for _, hour in live.look().hours})
    assert live.look(span=Span(hours[-1])).streams == {}, "it is of another hour"


def test_the_first_record_of_a_lane_that_was_never_trimmed_is_owed(live: Recorded) -> None:
    first, *others = live.messages()
    live.replace(others)
    found = live.look().streams
    assert first.rows is not None
    assert sum(each.missing.count for each in found.values()) == len(first.rows)


def test_of_a_lane_that_keeps_nothing_any_more_nothing_is_missing(live: Recorded) -> None:
    live.expire(len(live.messages()))
    assert live.look().ok


def test_a_lane_that_was_made_anew_lacks_all_of_it(live: Recorded) -> None:
    live.broker.delete(TRADES)
    live.broker.lanes(TRADES)
    findings = live.look()
    assert [lane.lane for lane in findings.lanes if lane.anew] == [TRADES]
    assert {key: each.missing.count for key, each in findings.streams.items()} == {
        BITCOIN: 301,
        ETHER: 101,
    }


def test_what_the_broker_has_deleted_by_age_is_not_missing(tmp_path: Path) -> None:
    with recorded(tmp_path) as opened:
        opened.publish()
        opened.bench.live(range(400, 430))
        opened.publish()
        first = len([each for each in opened.messages() if each.head.step.begin == 1])
        opened.expire(first)
        found = opened.look()
        assert found.ok
        assert count(found) == {BTC: 30}


def test_a_step_that_is_kept_in_part_is_owed_to_nobody(tmp_path: Path) -> None:
    with recorded(tmp_path) as opened:
        opened.publish()
        opened.bench.live(range(400, 430))
        opened.publish()
        opened.expire(1)
        found = opened.look()
        assert found.ok
        (lane,) = (each for each in found.lanes if each.lane == TRADES)
        assert lane.oldest == opened.messages()[-1].head.step.begin


def test_what_is_not_published_yet_is_not_missing(live: Recorded) -> None:
    live.bench.live(range(400, 430))
    assert live.look().ok


def test_a_lost_mark_is_a_step_that_is_not_whole(live: Recorded) -> None:
    live.replace([each for each in live.messages() if not isinstance(each.head.told, Mark)])
    found = live.look()
    assert found.streams == {}
    assert not found.ok
    (lane,) = (each for each in found.lanes if each.steps)
    assert lane.lane == TRADES


def test_a_lost_dead_letter_is_missing(live: Recorded) -> None:
    live.bench.live(range(400, 430), poison=(410,))
    live.publish()
    lane = next(name for name in live.broker._lanes if "_dlq" in name and live.messages(name))
    first, *others, _, mark = live.messages(lane)
    live.replace([first, *others, mark], lane)
    key, found = the(live.look())
    assert (key, found.missing.count) == (tellings.LETTERS, 1)


def test_a_topic_that_came_later_lacks_no_steps(tmp_path: Path) -> None:
    with bench(tmp_path / "journal") as captured:
        live = Recorded(captured, StateFile(tmp_path / "publish.state"))
        captured.live(range(100, 150))
        live.publish()
        captured.live(range(150, 200), poison=(160,))
        live.publish()
        assert live.look().ok


def test_only_events_of_the_audited_hours_are_judged(live: Recorded) -> None:
    live.spoil(without(native(120), native(390)))
    hours = sorted({hour for _, hour in live.look().hours})
    _, found = the(live.look(span=Span(hours[0], hours[0] + 2)))
    assert found.missing.examples() == [str(native(120))]


def test_frames_that_the_journal_has_no_more_are_not_compared(tmp_path: Path) -> None:
    with recorded(tmp_path, segment_bytes=16 << 10) as opened:
        opened.publish()
        opened.bench.deliver()
        ends = opened.bench.keep_ledger()
        opened.bench.forget(ends[1].seq)
        found = opened.look()
        assert found.ok
        assert found.unseen > 0
        assert count(found) == {BTC: 301, ETH: 101}


def test_frames_that_the_journal_has_lost_are_not_compared(tmp_path: Path) -> None:
    with recorded(tmp_path, segment_bytes=16 << 10) as opened:
        opened.publish()
        _, second, *_ = list_segments(OS_DISK, opened.bench.folder)
        segment_path(opened.bench.folder, second).unlink()
        found = opened.look()
        assert found.ok
        assert found.unseen > 0


def test_nothing_is_asked_of_a_transport_that_was_told_nothing(tmp_path: Path) -> None:
    with recorded(tmp_path) as opened:
        opened.state = StateFile(tmp_path / "other.state")
        found = opened.look()
        assert (found.ok, found.lanes, found.hours) == (True, [], {})


# ------------------------------------------------------------------------- mending


SPOILS: dict[str, Callable[[Recorded], object]] = {
    "deleted": lambda live: live.spoil(without(native(120), native(260))),
    "altered": lambda live: live.spoil(dearer(native(130))),
    "unmarked": lambda live: live.replace(
        [each for each in live.messages() if not isinstance(each.head.told, Mark)]
    ),
    "all but the first": lambda live: live.replace(
        [each for each in live.messages() if each.head.part == 0]
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_what_is_lacking_is_mended(live: Recorded, name: str) -> None:
    whole = live.look().hours
    SPOILS[name](live)
    assert not live.look().ok
    live.look(mend=True)
    found = live.look()
    assert found.ok
    assert sum(found.hours.values(), Digest()).ids == sum(whole.values(), Digest()).ids


def test_only_what_is_lacking_is_told_once_more(live: Recorded) -> None:
    before = len(live.messages())
    live.spoil(without(native(120), native(260)))
    assert live.look(mend=True).mended == 2
    told = live.messages()[before:]
    assert [rows["venue_seq"].to_pylist() for _, rows in told if rows is not None] == [
        [native(120)],
        [native(260)],
    ]
    assert {head.repair for head, _ in told} == {True}
    assert live.look(mend=True).mended == 0


def test_records_of_collectors_are_told_once_more_only_with_their_lost_step(
    live: Recorded,
) -> None:
    before = len(live.messages())
    live.spoil(without(native(99)))  # in one stretch with the records of its connection
    live.look(mend=True)
    kinds = {type(head.told) for head, _ in live.messages()[before:]}
    assert kinds == {EventsTold, Mark}


def bridged(live: Recorded) -> dict[str, list[tuple[object, ...]]]:
    """Return what a bridge stores of the lanes, without how it came there."""
    store = MemoryStore()
    bridge = Bridge(MemoryTransport(live.broker), store)
    bridge.drain()
    bridge.close()
    found = content(store)
    ids = [row[:1] for row in found["trades"]]
    return {"trades": sorted(ids, key=str), "gaps": found["gaps"]}


def test_a_bridge_reads_a_repair_as_any_step(live: Recorded, tmp_path: Path) -> None:
    live.bench.live(range(400, 430))
    live.publish()
    unspoiled = Recorded(live.bench, StateFile(tmp_path / "another.state"))
    unspoiled.publish()
    SPOILS["deleted"](live)
    live.look(mend=True)
    assert bridged(live) == bridged(unspoiled)


def test_what_a_bridge_reads_after_a_repair_of_a_whole_step_is_complete(
    live: Recorded, tmp_path: Path
) -> None:
    unspoiled = Recorded(live.bench, StateFile(tmp_path / "another.state"))
    unspoiled.publish()
    SPOILS["unmarked"](live)
    live.look(mend=True)
    live.bench.live(range(400, 430))
    for each in (live, unspoiled):
        each.publish()
    assert bridged(live)["trades"] == bridged(unspoiled)["trades"]


def test_what_was_deleted_by_age_is_published_again_if_it_is_asked_for(
    tmp_path: Path,
) -> None:
    with recorded(tmp_path) as opened:
        opened.publish()
        opened.bench.live(range(400, 430))
        opened.publish()
        whole = Recorded(opened.bench, StateFile(tmp_path / "another.state"))
        whole.publish()
        opened.expire(len([each for each in opened.messages() if each.head.step.begin == 1]))
        assert opened.look(mend=True).mended == 0

        found = opened.look(expired=True)
        lacking = {key.symbol: each.missing.count for key, each in found.streams.items()}
        assert (found.ok, lacking) == (False, {BTC: 301, ETH: 101})
        assert opened.look(mend=True, expired=True).mended == 402

        assert opened.look(expired=True).streams == {}
        assert bridged(opened)["trades"] == bridged(whole)["trades"]


def test_a_repair_that_is_the_oldest_record_does_not_say_what_is_kept(tmp_path: Path) -> None:
    with recorded(tmp_path) as opened:
        opened.publish()
        opened.spoil(without(native(120)))
        opened.look(mend=True)
        first = len([each for each in opened.messages() if not each.head.repair])
        opened.expire(first)
        opened.bench.live(range(400, 430))
        opened.publish()
        assert opened.look().ok


def test_it_says_how_far_it_is_and_ends_when_it_is_told_to(live: Recorded) -> None:
    seen: list[tuple[int, int]] = []
    live.look(progress=lambda *told: seen.append(told))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]

    def stop(*_: int) -> None:
        raise Transient("enough")

    live.spoil(without(native(120)))
    before = len(live.messages())
    with pytest.raises(Transient, match="enough"):
        live.look(mend=True, progress=stop)
    assert len(live.messages()) == before


class Watched(MemoryTransport):
    """Notes whether anybody else could tell something meanwhile, and what is told at once."""

    def __init__(self, broker: Broker, turn: threading.Lock) -> None:
        super().__init__(broker)
        self._turn = turn
        self.alone: list[bool] = []
        self.ends: list[Message] = []

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        self.alone.append(self._turn.locked())
        self.ends.append(messages[-1])
        super().publish(lane, messages)


def test_neither_a_publisher_nor_a_repair_tells_a_step_into_the_other_one(live: Recorded) -> None:
    turn = threading.Lock()
    watched = Watched(live.broker, turn)
    live.transport = SharedTransport(watched, lambda: turn)
    live.bench.live(range(400, 430))
    live.publish()
    published = len(watched.alone)
    live.spoil(without(native(120), native(410)))
    live.transport = watched
    live.look(mend=True, alone=lambda: turn)
    assert len(watched.alone) > published > 0
    assert all(watched.alone)
    assert all(isinstance(message.head.told, Mark) for message in watched.ends)


def test_a_lane_that_was_made_anew_is_mended_by_its_publisher(live: Recorded) -> None:
    live.broker.delete(TRADES)
    live.broker.lanes(TRADES)
    assert live.look(mend=True).mended == 0
    live.publish()
    assert live.look().ok
