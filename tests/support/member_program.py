"""The program of a :class:`~tests.support.member_process.MemberProcess`.

Commands come as lines of JSON, ``[name, argument, …]``; so do answers: ``{"is": …}``, or
``{"error": …}`` with the class of the error. The first answer, which nobody asks for, is its name.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.app.wiring.transports import kind_of
from forebay.errors import ForebayError
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig

if TYPE_CHECKING:
    from forebay.journal import Position
    from forebay.ports import Membership, Subscription


class _Member:
    """What it does when it is asked."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._subscriptions: dict[str, Subscription] = {}
        self._places: dict[str, Position] = {}

    def lanes(self) -> list[str]:
        return sorted(self._membership.lanes())

    def read(self, lane: str, count: int) -> list[int]:
        if lane not in self._subscriptions:
            self._subscriptions[lane] = self._membership.subscribe(lane)
        subscription = self._subscriptions[lane]
        numbers: list[int] = []

        while len(numbers) < count:
            for each in subscription.read(max_messages=count - len(numbers)):
                assert each.message is not None
                numbers.append(each.message.head.part)
                self._places[lane] = subscription.position_at(each.resume)
        return numbers

    def commit(self, lane: str) -> None:
        self._subscriptions[lane].commit(self._places[lane])


def main(told: str) -> None:
    """Answer commands until there are no more."""
    config, topics, group = msgspec.json.decode(told, type=tuple[TransportConfig, list[str], str])
    membership = kind_of(config).open(config, ignore).join(topics, group)
    member = _Member(membership)
    _say({"is": getattr(membership, "member", "")})
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            _say({"is": getattr(member, name)(*arguments)})
        except ForebayError as error:
            _say({"error": type(error).__name__, "text": error.message})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
