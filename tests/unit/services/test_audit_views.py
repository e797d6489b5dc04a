"""How a report reads: HTML that escapes, a table that shows a loss at one glance."""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from forebay.cli.audit_view import render_table
from forebay.domain.coverage import Gap
from forebay.services.audit import (
    AuditReport,
    Made,
    Problem,
    StageDigest,
    StreamAudit,
    render_html,
)
from forebay.services.audit.report import gap_sums, iso, verdict
from forebay.services.audit.transport_report import TransportAudit

if TYPE_CHECKING:
    import pytest

    from forebay.domain.channels import Unit

MADE = Made("2026-01-01T02:00:00Z", "/data/<b>", "1.2.3")
EVIL = "<script>alert('&\"[red]</script>"


def stream(**changed: object) -> StreamAudit:
    fields: dict[str, object] = {
        "venue": "coinbase",
        "channel": "trade",
        "symbol": "BTC-USD",
        "events": 1234,
        "verified_from": "2026-01-01T00:00:00.000000001Z",
        "verified_to": "2026-01-01T01:00:00.000000000Z",
        "verified_by": ["frames"],
        "basis": "id",
        "stages": {
            "journal": StageDigest(1234),
            "store": StageDigest(1234),
            "truth": StageDigest(1235),
        },
        "missing": 0,
    }
    return StreamAudit(**(fields | changed))  # type: ignore[arg-type]


def report(**changed: object) -> AuditReport:
    fields: dict[str, object] = {
        "ok": True,
        "missing": 0,
        "doubled": 0,
        "mutated": 0,
        "spurious": 0,
        "ambiguous": 0,
        "dead_letters": 17,
        "conflicts": 0,
        "gaps": [],
        "streams": [stream()],
        "problems": [],
        "notes": [],
        "position": "ab:12",
        "since": None,
        "until": None,
        "frames": {"yielding": 1200, "control": 4, "dead": 17},
        "took_ms": 5,
    }
    return AuditReport(**(fields | changed))  # type: ignore[arg-type]


def gap(first: int, last: int, state: str, reason: str = "in_connection", unit: Unit = "id") -> Gap:
    return Gap("coinbase", "spot", "trade", "BTC-USD", unit, "", first, last, reason, state)  # type: ignore[arg-type]


def shown(it: AuditReport) -> str:
    file = io.StringIO()
    Console(file=file, width=160).print(render_table(it))
    return file.getvalue()


class Texts(HTMLParser):
    """Collects tags, attributes and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(it: AuditReport) -> Texts:
    texts = Texts()
    texts.feed(render_html(it, MADE))
    return texts


def test_html_escapes_whatever_a_venue_says() -> None:
    evil = report(
        ok=False,
        streams=[stream(symbol=EVIL, unseeable=EVIL)],
        gaps=[gap(1, 2, EVIL, EVIL)],
        problems=[Problem(EVIL, EVIL, 1, [EVIL], EVIL)],
        notes=[EVIL],
        position=EVIL,
    )

    texts = parsed(evil)

    assert "script" not in texts.tags
    assert sum(EVIL in text for text in texts.texts) >= 8


def test_html_needs_nothing_else() -> None:
    texts = parsed(report(gaps=[gap(1, 2, "filled")]))

    assert texts.links == []
    assert not {"link", "script", "img", "iframe"} & set(texts.tags)
    assert "url(" not in render_html(report(), MADE)


def test_html_tells_green_from_red() -> None:
    assert '<p class="ok">' in render_html(report(), MADE)
    red = render_html(report(ok=False, problems=[Problem("missing", "s", 3, ["7"], "three")]), MADE)
    assert '<p class="red">' in red
    assert '<td>three</td><td class="number">7</td>' in red


def test_html_says_first_whether_anything_is_wrong_and_last_how_to_see_it_again() -> None:
    red = report(
        ok=False,
        since="2026-01-01T00:00:00Z",
        problems=[Problem("missing", "s", 3, ["7"], "three")],
        gaps=[gap(1, 2, "open")],
        notes=["A note."],
    )
    html = render_html(red, MADE._replace(folder="/data/it's <here>"))

    marks = ['<p class="red">', "Problems", "Scope", "Streams", "Gaps", "What it does not say"]
    places = [html.index(mark) for mark in [*marks, "How to reproduce"]]
    assert places == sorted(places)
    command = re.findall(r"<pre>(.+)</pre>", html)[0]
    typed = ["forebay", "audit", "--data", "/data/it's <here>", "--since", "2026-01-01T00:00:00Z"]
    assert shlex.split(unescape(command))[: len(typed)] == typed


def test_the_table_of_a_whole_record() -> None:
    text = shown(report())

    assert "Events of coinbase/trade\n" in text
    assert "\nBTC-USD " in text
    assert "1,234" in text
    assert "1,235" in text
    assert "2026-01-01T00:00:00 to 2026-01-01T01:00:00 by id, from frames" in text
    assert "17 dead letters" in text
    assert "Gaps" not in text
    assert text.rstrip().endswith("Nothing lost: 1,234 events stored, each once and as received.")


def test_the_table_of_a_loss() -> None:
    lost = report(
        ok=False,
        missing=3,
        streams=[stream(missing=3, verified_from=None, verified_to=None)],
        problems=[
            Problem("missing", "s", 3, [str(n) for n in range(70, 90)], "three are missing"),
            Problem("gap_open", "s", 3, [], "a gap"),
        ],
        notes=["a note"],
    )

    text = shown(lost)

    assert "three are missing 70, 71, 72, 73, 74\n" in text.replace("  ", "")
    assert "a note" in text
    assert text.rstrip().endswith("Not ok: gap open, missing; 1,234 events stored.")
    assert re.search(r"^BTC-USD .* 3 ", text, re.MULTILINE)


def test_markup_in_a_name_is_text() -> None:
    text = shown(report(streams=[stream(symbol="[bold]X[/bold]")], notes=["[red]y"]))

    assert "[bold]X[/bold]" in text
    assert "[red]y" in text


def test_no_basis_is_never_a_zero() -> None:
    unknown = stream(basis="none", missing=None, verified_from=None, verified_to=None)
    text = shown(report(streams=[unknown]))

    assert "no basis" in text
    assert "?" in text
    assert json.loads(report(streams=[unknown]).encode())["streams"][0]["missing"] is None


def test_gaps_are_summed_by_state_reason_and_unit() -> None:
    gaps = [
        *(gap(1, 5, "filled"), gap(9, 9, "filled"), gap(20, 29, "open", "between_connections")),
        gap(10**18, 10**18 + 90 * 10**9, "open", "between_connections", "time"),
    ]

    assert gap_sums(report(gaps=gaps)) == [
        ("filled", "in_connection", "id", 2, "6"),
        ("open", "between_connections", "id", 1, "10"),
        ("open", "between_connections", "time", 1, "90 s"),
    ]
    text = shown(report(gaps=gaps))
    assert "between connections" in text
    assert "90 s" in text


def test_the_verdict_does_not_hide_what_is_gone_for_good() -> None:
    gone = [gap(1, 7, "permanent"), gap(0, 60 * 10**9, "permanent", unit="time")]
    assert verdict(report(gaps=gone)) == (
        "Nothing lost: 1,234 events stored, each once and as received, "
        "and 7 and 60 s of time declared as gone for good."
    )


def test_the_verdict_of_nothing_does_not_praise_it() -> None:
    said = "Nothing lost, and nothing to compare: no event is stored."
    assert verdict(report(streams=[stream(events=0)])) == said
    text = shown(report(streams=[]))
    assert text.startswith("No stream of events.\n")
    assert text.rstrip().endswith(said)


def test_the_verdict_says_of_what_was_refused_that_it_was_asked_for() -> None:
    refused = [Problem("not_given", "s", 1, [], "s: asked for, and refused")]
    said = "Not ok: asked for and refused; 1,234 events stored."
    assert verdict(report(ok=False, problems=refused)) == said


def test_the_verdict_names_who_accepted_what_is_missing() -> None:
    odd = replace(gap(9, 10**15, "accepted", "far_ahead"), accepted_by="bob")
    ended = [
        replace(gap(*ends, "accepted"), accepted_by="ann", accepted_reason="never listed")
        for ends in ((1, 7), (20, 20))
    ]
    gone = [*ended, odd]
    assert verdict(report(gaps=gone)) == (
        "Nothing lost: 1,234 events stored, each once and as received, "
        "and 8 accepted as missing (by ann: never listed)."
    )


def test_what_can_never_be_seen_is_said_once_for_all_streams_of_a_sort() -> None:
    blind = [stream(unseeable="the weather"), stream(symbol="ETH-USD", unseeable="the weather")]
    text = shown(report(streams=[*blind, stream(symbol="SOL-USD")]))

    said = "Not to be seen in coinbase/trade/BTC-USD and 1 more: the weather."
    assert text.count("the weather") == text.count(said) == 1
    assert said in parsed(report(streams=blind)).texts


def test_a_transport_that_lacks_events_is_seen_and_so_is_one_that_was_not_looked_at() -> None:
    lacking = TransportAudit(name="kafka", looked_at=True, events=1234, missing=3, again=12)
    it = report(transports=[lacking, TransportAudit(name="nats", looked_at=False)])
    for text in (shown(it), " ".join(parsed(it).texts)):
        assert re.search(r"kafka\s+0\s+1,234\s+3\s+0\s+0\s+12", text)
        assert re.search(r"nats(\s+–){6}", text)


def test_the_verdict_says_that_it_is_a_transport_that_lacks_something() -> None:
    problem = Problem("unpublished", "coinbase/trade/BTC-USD", 3, ["1 to 3"], "")
    assert "missing on a transport" in verdict(report(ok=False, problems=[problem]))


def test_a_report_reads_back() -> None:
    it = report(gaps=[gap(1, 2, "open")], problems=[Problem("k", "s", 1, ["1"], "t")])

    assert msgspec.json.decode(it.encode(), type=AuditReport) == it


def test_times_keep_their_nanoseconds() -> None:
    assert iso(1_767_225_600_000_000_001) == "2026-01-01T00:00:00.000000001Z"
    assert iso(-1) == "1969-12-31T23:59:59.999999999Z"


def test_a_report_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stages = {name: StageDigest(1_234_567) for name in ("journal", "store", "truth")}
    streams = [stream(symbol=name, stages=stages) for name in ("BTC-USD", "ETH-USD", "1INCH-USDC")]
    it = report(streams=streams, gaps=[gap(1, 9, "open", "absent_from_history")], notes=["a " * 90])
    lines = shown(it).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[0] == "Events of coinbase/trade"
    assert lines[5].split() == ["1INCH-USDC", *["1,234,567"] * 3, *"0000"]
    assert "verified: 2026-01-01T00:00:00 to 2026-01-01T01:00:00 by id, from frames" in lines


def test_streams_that_do_not_fit_are_a_line_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = shown(report(streams=[stream(), stream(venue="other", symbol="\x1b[2J")]))

    assert max(map(len, text.splitlines())) <= 40
    assert "coinbase/trade/BTC-USD" in text
    assert r"other/trade/\x1b[2J" in text
    assert "…" not in text


def test_what_was_verified_alike_is_said_once() -> None:
    later = stream(symbol="SOL-USD", verified_to="2026-01-01T02:00:00.000000000Z")
    text = shown(report(streams=[stream(), stream(symbol="ETH-USD"), later]))

    assert "verified, BTC-USD and 1 more: 2026-01-01T00:00:00 to 2026-01-01T01:00:00 by id" in text
    assert "verified, SOL-USD: 2026-01-01T00:00:00 to 2026-01-01T02:00:00 by id" in text


def test_html_says_what_it_is_of_and_lists_gaps_with_their_times() -> None:
    gaps = [gap(7, 9, "filled"), gap(10**18, 2 * 10**18, "open", "between_connections", "time")]
    html = render_html(report(gaps=gaps), MADE)

    assert "Made at 2026-01-01T02:00:00Z by Forebay 1.2.3 of the data in /data/&lt;b&gt;." in html
    assert "from 2026-01-01T00:00:00.000000001Z to 2026-01-01T01:00:00.000000000Z." in html
    assert '<td class="number">1,234</td>' in html
    assert "between connections" in html
    times = "<td>2001-09-09T01:46:40.000000000Z</td><td>2033-05-18T03:33:20.000000000Z</td>"
    assert html.index(f"{times}<td>open</td>") < html.index('<td class="number">7</td>')


def test_html_shows_no_character_that_turns_its_text() -> None:
    html = render_html(report(streams=[stream(symbol="\u202egnp.exe\x1b")]), MADE)

    assert r"\u202egnp.exe\x1b" in html
    assert "\u202e" not in html
