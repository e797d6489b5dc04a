"""The page on the audit: its tables and examples are compared with what the code does."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from typing import TYPE_CHECKING
from uuid import UUID

from forebay.clock import ManualClock
from forebay.domain.coverage import StreamKey
from forebay.domain.digest import Digest
from forebay.domain.ledger import Covered, Hour, LostRange, SegmentEntry, StreamEntry
from forebay.journal import JournalReader, JournalWriter, PendingBlock, Position
from forebay.ports import Commit, Span
from forebay.services.audit.report import AuditReport, StreamAudit
from forebay.services.ledger import open_ledger
from forebay.services.ledger_builder import Remembered
from forebay.services.projection import Projection
from tests.support.delivery import PARSERS
from tests.support.frames import as_json, batch, context
from tests.support.memory_store import MemoryAudited, MemoryStore
from tests.support.pages import ROOT, block, page, section, table, ticked

if TYPE_CHECKING:
    from pathlib import Path

AUDIT, IDENTITY = page("explanation/audit"), page("explanation/identity")
BTC = StreamKey("coinbase", "spot", "trade", "BTC-USD")
RECEIVED_NS = 1_767_225_600_130_000_000
SECOND_TRADE = {"trade_id": 280_233, "side": "buy", "price": "64250.11", "size": "1"}


def told_frame(**changed: object) -> bytes:
    return as_json(json.loads(block(IDENTITY, "json")) | changed)


def test_the_worked_digest_is_right_and_is_the_stores() -> None:
    told = json.loads(block(AUDIT, "json"))
    rows = [row.replace("\n", "") for row in block(AUDIT, "rows").strip().split("\n\n")]
    ids = [UUID(row.split("|")[0]).int for row in rows]
    hashes = [hashlib.md5(row.encode(), usedforsecurity=False).digest() for row in rows]
    numbers = [int.from_bytes(each, "little") for each in hashes]
    digest = Digest(len(rows), sum(ids) % 2**128, sum(numbers) % 2**128)
    assert Hour.of(0, digest) == Hour(0, **told)

    values = table(AUDIT, "", "first trade", "second trade", "sum mod 2¹²⁸")
    halves = [[cell.strip("`") for cell in row[1:]] for row in values]
    joined = [
        "".join(pair)
        for top, below in zip(*[iter(halves)] * 2, strict=True)
        for pair in zip(top, below, strict=True)
    ]
    texts = [f"{number:032x}" for number in (*ids, *numbers)]
    assert joined == [
        *texts[:2],
        told["ids"],
        *(each.hex() for each in hashes),
        "",
        *texts[2:],
        told["rows"],
    ]

    store, frames = MemoryStore(), [told_frame(), told_frame(**SECOND_TRADE)]
    made = Projection(PARSERS, {}).project([batch(frames, received_ns=[RECEIVED_NS] * 2)])
    store.commit(Commit({"store": Position("a" * 32, 2)}, events=made.events))
    asked = MemoryAudited(store)
    assert [each.digest for each in asked.account(Span()).hours.values()] == [digest]
    assert asked.rows(BTC, 0, 1 << 62).rows["canonical"].to_pylist() == rows


def test_the_worked_entry_is_what_the_ledger_records(tmp_path: Path) -> None:
    told = block(AUDIT, "entry").replace("\n", "")
    frames = [told_frame(), told_frame(**SECOND_TRADE), told_frame(price="1")]
    entry = json.loads(told)
    draft = PendingBlock(
        1, context().encode(), frames, [RECEIVED_NS + at for at in range(3)], (0, 0)
    )
    with JournalWriter.open(
        tmp_path / "journal", clock=ManualClock(), random_id=lambda: entry["log_id"],
        ballast_bytes=0,
    ) as writer:  # fmt: skip
        writer.commit([draft])
        with (
            JournalReader(tmp_path / "journal") as reader,
            open_ledger(
                tmp_path / "ledger", PARSERS, ManualClock(), first_told=Remembered(PARSERS)
            ) as ledger,
        ):
            ledger.record(reader.read(), writer.position)
    with JournalReader(tmp_path / "ledger") as reader:
        (recorded,) = reader.read()

    assert (recorded.kind, list(recorded.payloads)) == (1, [told.encode()])
    text = section(AUDIT, "The ledger")
    rows = table(text, "field", "is")
    assert [field for row in rows for field in ticked(row[0])] == [*SegmentEntry.__struct_fields__]
    for kind in (LostRange, StreamEntry, Covered, Hour):
        assert set(kind.__struct_fields__) <= set(ticked(text)), kind


def kinds_in_the_code() -> set[str]:
    """First arguments of whatever makes a problem."""
    found: set[str] = set()
    for path in (ROOT / "src" / "forebay" / "services" / "audit").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name in {"Problem", "say"} and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_the_kinds_of_problems_are_those_of_the_code() -> None:
    told = [ticked(row[0])[0] for row in table(AUDIT, "kind", "says", "counts")]
    assert len(told) == len(set(told))
    assert set(told) == kinds_in_the_code()


def test_the_report_has_these_fields() -> None:
    text = section(AUDIT, "The report")
    told = [name for row in table(text, "field", "is") for name in ticked(row[0])]
    assert sorted(told) == sorted(AuditReport.__struct_fields__)
    (stream,) = re.findall(r"^Each stream has (.+?)\. The basis", text, re.MULTILINE | re.DOTALL)
    named = re.sub(r"\(.*?\)", "", stream, flags=re.DOTALL)
    assert sorted(ticked(named)) == sorted(StreamAudit.__struct_fields__)
