"""NATS without a server: its errors, its streams, its batches and its table."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import msgspec
import nats.errors
import pytest

from forebay.domain.kinds import KINDS
from forebay.domain.messages import Head, Message, Step
from forebay.errors import ConfigError, Permanent, Transient, Unreachable
from forebay.services.lanes import all_topics
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT, batches
from forebay.transports.nats.batches import Batch, batches_of, entries_of
from forebay.transports.nats.errors import DRIVER, NUMBERS, Forbidden, ServerRefused, translated
from forebay.transports.nats.fan_out import NatsFanOut, without_venue
from forebay.transports.nats.streams import (
    StreamLimits,
    control_subject,
    differences,
    identity_of,
    stream_of,
    subjects_of,
)
from forebay.transports.nats.transport import NatsTransport
from forebay.transports.subjects import subject_prefix
from tests.conformance.test_transport import message, message_of_rows
from tests.support.frames import LOG, Told, rows_of
from tests.support.pages import block, page, section, table, ticked

if TYPE_CHECKING:
    from pathlib import Path

LANE = "trade_archive"
LARGEST = 1 << 20


def told(part: int, rows: int = 0, step: Step | None = None) -> Message:
    like = message_of_rows(0) if rows else message(0)
    head = Head(step or Step(LOG, 1, 9), part, like.head.told)
    return Message(head, rows_of(*map(Told, range(1, rows + 1))) if rows else None)


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize("number", NUMBERS)
def test_what_jetstream_refuses_says_what_to_do(number: int) -> None:
    said = {"code": 500, "err_code": number, "description": "it cannot be"}
    error = translated(ServerRefused(said, "a batch"), "host:1")
    assert type(error) is NUMBERS[number][0]
    assert error.message == f"NATS refuses a batch: it cannot be ({number})."
    assert error.hint


def test_what_nobody_knows_is_tried_again() -> None:
    error = translated(
        ServerRefused({"err_code": 99999, "description": "new"}, "a batch"), "host:1"
    )
    assert type(error) is Transient


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (nats.errors.AuthorizationError(), Transient),
        (Forbidden("nats: permissions violation for publish"), Transient),
        (nats.errors.NoRespondersError(), Transient),
        (nats.errors.ConnectionClosedError(), Unreachable),
        (nats.errors.TimeoutError(), Unreachable),
        (ConnectionRefusedError(111, "refused"), Unreachable),
        (TimeoutError(), Unreachable),
        (nats.errors.MaxPayloadError(), Permanent),
        (nats.errors.SecureConnRequiredError(), ConfigError),
    ],
)
def test_an_error_of_the_client_is_one_of_ours(error: Exception, expected: type) -> None:
    ours = translated(error, "host:1")
    assert type(ours) is expected
    assert ours.message.startswith("NATS at host:1: ")
    assert ours.hint


def test_the_general_errors_of_the_client_come_last() -> None:
    classes = list(DRIVER)
    for place, one in enumerate(classes):
        assert not any(issubclass(other, one) for other in classes[place + 1 :]), one


def test_the_page_has_the_table() -> None:
    rows = table(section(page("explanation/nats"), "Errors"), "number", "error", "it says")
    said = {int(number): ticked(row[1])[0] for row in rows for number in ticked(row[0])}
    assert said == {number: kind.__name__ for number, (kind, _) in NUMBERS.items()}


def test_the_page_has_the_subjects() -> None:
    head = ("topic, which is the name of its stream", "subjects of its events")
    for topic, subject in table(section(page("explanation/nats"), "Subjects"), *head):
        (name,), (spelled,) = ticked(topic), ticked(subject)
        assert re.sub(r"{[a-z]+}", "*", spelled) in subjects_of(name)


def test_the_example_of_the_page_is_taken() -> None:
    text = block(page("explanation/nats"), "toml").replace("/etc/forebay/nats.toml", "")
    first, second = tomllib.loads(text)["transports"]
    made = TRANSPORT.open(msgspec.convert(first, TransportConfig), ignore)
    assert isinstance(made, NatsTransport)
    assert made._limits == StreamLimits(replicas=3, max_bytes=200 * 10**9)
    assert isinstance(TRANSPORT.open(msgspec.convert(second, TransportConfig), ignore), NatsFanOut)


# --------------------------------------------------------------------------- streams


def test_a_topic_has_the_subjects_of_its_events_and_one_for_the_rest() -> None:
    assert subjects_of("trade_archive") == ["_forebay.trade_archive", "trades.*.*"]
    assert subjects_of("aggregate_archive") == ["_forebay.aggregate_archive", "bars.*.*.*"]
    assert subjects_of("trade_archive_dlq") == ["_forebay.trade_archive_dlq"]


def test_no_subject_is_of_two_topics() -> None:
    found = [subject for topic in all_topics() for subject in subjects_of(topic)]
    assert len(found) == len(set(found))
    prefixes = {subject.partition(".")[0] for subject in found}
    assert len(prefixes) == 1 + len({subject_prefix(kind) for kind in KINDS.values()})


def test_every_event_fits_a_subject_of_its_topic() -> None:
    wanted = [re.escape(each).replace(r"\*", "[^.]+") for each in subjects_of(LANE)]
    for entry in entries_of(LANE, told(0, rows=3)):
        assert any(re.fullmatch(each, entry.subject) for each in wanted)


def test_what_is_no_event_of_a_lane_goes_beside_them() -> None:
    control, *rows = entries_of("quote_archive", told(0, rows=2))
    assert {entry.subject for entry in (control, *rows)} == {control_subject("quote_archive")}
    assert control.headers == {"forebay": "control"}
    assert set(rows[0].headers) == {"event-id"}


def test_a_stream_that_is_as_it_was_made_differs_in_nothing() -> None:
    wanted = stream_of(LANE, StreamLimits(replicas=3, max_bytes=10))
    has = {**wanted, "subjects": wanted["subjects"][::-1], "compression": "none"}
    assert [*differences(wanted, has)] == []
    has |= {"max_age": 1, "allow_atomic": False}
    assert [*differences(wanted, has)] == [
        ("max_age", str(604_800 * 10**9), "1"),
        ("allow_atomic", "True", "False"),
    ]


def test_an_identity_is_of_one_stream_at_one_time() -> None:
    info = {"config": {"name": LANE}, "created": "2026-01-01T00:00:00.000000001Z"}
    anew = {**info, "created": "2026-01-01T00:00:00.000000002Z"}
    back = {**info, "config": {"name": LANE, "metadata": {"forebay_turned_back": "x"}}}
    assert len({identity_of(each) for each in (info, anew, back)}) == 3


# --------------------------------------------------------------------------- batches


def test_batches_have_everything_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST", 4)
    messages = [told(0), told(1, rows=9), told(2)]
    made = [*batches_of(LANE, messages, LARGEST)]
    assert [len(batch.entries) for batch in made] == [4, 4, 4]
    flat = [entry for batch in made for entry in batch.entries]
    assert flat == [entry for message in messages for entry in entries_of(LANE, message)]
    assert [*batches_of(LANE, messages, LARGEST)] == made, "told again they are the same"


def test_a_batch_is_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", 1000)
    for batch in batches_of(LANE, [told(0, rows=20)], LARGEST):
        assert sum(len(entry.value) for entry in batch.entries[:-1]) < 1000


def test_what_is_larger_than_a_server_takes_goes_in_pieces_of_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MOST", 5)
    whole = [*entries_of(LANE, told(0, rows=3))]
    made = [*batches_of(LANE, [told(0, rows=3)], 150)]
    flat = [entry for batch in made for entry in batch.entries]
    assert max(entry.size for entry in flat) <= 150
    assert {entry.subject for entry in flat if entry.piece} == {control_subject(LANE)}
    read, reader = [], batches.PieceReader()
    for offset, entry in enumerate(flat, 1):
        found = reader.add(offset, entry.value, entry.headers[batches.PIECE])
        if found is not None:
            begins, value = found
            assert flat[begins - 1].piece.startswith("0/")
            read.append((value, entry.event_id))
    assert read == [(entry.value, entry.event_id) for entry in whole]
    for batch in made:
        assert batch.entries[0].piece.startswith("0/")


def test_who_begins_between_pieces_passes_over_the_rest_of_them() -> None:
    reader = batches.PieceReader()
    rest = [reader.add(offset, b"?", piece) for offset, piece in ((2, "1/3"), (3, "2/3"))]
    assert rest == [None, None]
    assert reader.add(4, b"a", "0/2") is None
    assert reader.add(5, b"b", "1/2") == (4, b"ab")


def test_another_batch_has_another_name() -> None:
    def name(*messages: Message) -> str:
        (batch,) = batches_of(LANE, messages, LARGEST)
        return batch.name

    names = [
        name(told(0)),
        name(told(1)),
        name(told(0, step=Step(LOG, 1, 10))),
        name(told(0), told(1)),
        name(told(0), told(1), told(2)),
        name(told(0), told(2), told(1)),
    ]
    assert len(set(names)) == len(names)


def test_bars_go_without_their_venue_as_well() -> None:
    entries = [
        batches.Entry("bars.v.EURUSD.1m", b"{}", "id"),
        batches.Entry("trades.v.BTC-USD", b"{}", "id"),
    ]
    assert [entry.subject for entry in without_venue(entries)] == ["bars.EURUSD.1m"]


def test_what_tells_nothing_makes_no_batch() -> None:
    assert [*batches_of(LANE, [], LARGEST)] == list[Batch]()


# ----------------------------------------------------------------------- the table


def config(**given: object) -> TransportConfig:
    return TransportConfig(kind="nats", **given)  # type: ignore[arg-type]


def test_the_mode_says_what_is_opened() -> None:
    assert isinstance(TRANSPORT.open(config(), ignore), NatsTransport)
    assert isinstance(TRANSPORT.open(config(mode="core"), ignore), NatsFanOut)
    assert TRANSPORT.durable(config())
    assert not TRANSPORT.durable(config(mode="core"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "both"}, "no mode 'both'"),
        ({"options": {"usr": "x"}}, "no option 'usr'"),
        ({"options": {"max_bytes": "1 GB"}}, "'1 GB' is no max_bytes"),
        ({"options": {"duplicate_window": "soon"}}, "no span of time"),
        ({"options": {"session": "short"}}, "no span of time"),
        ({"options": {"ca_file": "/nowhere.pem"}}, "certificate"),
        ({"credentials_file": "/nowhere.toml"}, "/nowhere.toml, cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TRANSPORT.open(config(**given), ignore)


def test_credentials_are_read_and_never_told(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text('user = "u"\npassword = "p"\n')
    made = TRANSPORT.open(config(credentials_file=str(file)), ignore)
    assert isinstance(made, NatsTransport)
    options = made._connection._options
    assert (options["user"], options["password"]) == ("u", "p")
    file.write_text("password = p-is-secret")
    with pytest.raises(ConfigError) as caught:
        TRANSPORT.open(config(credentials_file=str(file)), ignore)
    assert "p-is-secret" not in str(caught.value)


def test_nobody_there_is_unreachable_and_no_password_is_told() -> None:
    with pytest.raises(Unreachable) as caught:
        TRANSPORT.probe(config(servers="nats://u:p-is-secret@127.0.0.1:1"))
    assert "127.0.0.1:1" in str(caught.value)
    assert "p-is-secret" not in str(caught.value)
