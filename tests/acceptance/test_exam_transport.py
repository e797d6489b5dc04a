"""The exam across a transport: a second store behind it is as the first, in every edition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.domain.kinds import KINDS
from forebay.services import bridge, telling
from forebay.services.ordinals import OrdinalAssigner
from forebay.services.publisher import Telling, TransportSink
from tests.exam.across import sit_across
from tests.exam.made.protocol import EDITIONS
from tests.exam.ping import PING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from forebay.domain.messages import Message
    from forebay.journal import Position
    from forebay.services.normalise import Normalised


@pytest.fixture(autouse=True)
def _ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)


def test_every_edition_passes_across_a_transport(tmp_path: Path) -> None:
    assert sit_across(tmp_path) == set()


# ------------------------------------------------------------- what is broken is found out


FEW = [
    edition
    for edition in EDITIONS
    if edition.venue
    in {"made-native-id", "made-session-seq", "made-content-time", "made-observation-none"}
]


def ordinals_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    load = TransportSink.load

    def forgetful(self: TransportSink) -> Position | None:
        position = load(self)
        self._ordinals = OrdinalAssigner({})
        return position

    patch.setattr(TransportSink, "load", forgetful)


def the_position_is_kept_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    commit = TransportSink.commit

    def hasty(self: TransportSink, plan: Telling) -> int:
        publish, self._transport.publish = self._transport.publish, lambda *_: None  # type: ignore[method-assign]
        try:
            frames = commit(self, plan)
        finally:
            self._transport.publish = publish  # type: ignore[method-assign]
        publish("events", plan.messages)
        return frames

    patch.setattr(TransportSink, "commit", hasty)


def records_of_connections_do_not_travel(patch: pytest.MonkeyPatch) -> None:
    def deaf(messages: Iterable[Message]) -> Iterator[Normalised]:
        return (item for item in telling.listen(messages) if not item.controls)

    patch.setattr(bridge, "listen", deaf)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (ordinals_are_not_kept, "pings"),
    (the_position_is_kept_before_the_acknowledgement, "quotes"),
    (records_of_connections_do_not_travel, "coverage"),
]


@pytest.mark.parametrize(("spoil", "guarantee"), BROKEN, ids=[b.__name__ for b, _ in BROKEN])
def test_code_that_is_broken_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
) -> None:
    spoil(monkeypatch)
    assert guarantee in sit_across(tmp_path, FEW)
