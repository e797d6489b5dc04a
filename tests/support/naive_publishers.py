"""Publishers as the documents had them, as kinds of transports: each loses what the drills count.

``plugin = "tests.support.naive_publishers:…"`` in a ``[[transports]]`` table puts one where ours
would be; everything else of the system is as it is. Topics are read back with ours.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from confluent_kafka import KafkaException, Producer

from forebay.domain.messages import decode_message, encode_message
from forebay.errors import ForebayError
from forebay.transports.kafka.transport import KafkaTransport
from forebay.transports.kind import TransportConfig, TransportKind
from forebay.transports.nats import TRANSPORT as NATS
from forebay.transports.spelling import CONTROL, EVENT_ID, records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.messages import Message
    from forebay.ports import SharedLanes
    from forebay.telemetry import Observer

FOLDER = "folder"
"""The option that names the drill's folder."""
QUIET_NS = 1_000_000_000


class Naive(KafkaTransport):
    """Says that Kafka has what it may not have."""

    options: ClassVar[tuple[str, ...]] = ()
    """Those that are ours and not its driver's."""

    def __init__(self, config: TransportConfig, observer: Observer) -> None:
        self.own = {name: config.options[name] for name in self.options}
        theirs = {name: value for name, value in config.options.items() if name not in self.own}
        super().__init__(_with(config, theirs), observer)
        self._known: dict[str, list[str]] = {}
        self._ids: dict[str, str] = {}

    def lanes(self, topic: str) -> list[str]:
        if topic not in self._known:
            self._known[topic] = super().lanes(topic)
        return self._known[topic]

    def identity(self, lane: str) -> str:
        """Never looked at again."""
        if lane not in self._ids:
            self._ids[lane] = super().identity(lane)
        return self._ids[lane]


class SuccessIfEither(Naive):
    """It is published if one of both brokers took it."""

    options = (FOLDER,)

    def __init__(self, config: TransportConfig, observer: Observer) -> None:
        super().__init__(config, observer)
        conf = Path(self.own[FOLDER]) / "nats" / "nats-0" / "nats.conf"
        listens = json.loads(conf.read_text(encoding="utf-8"))["listen"]
        other = TransportConfig(kind="nats", servers=listens)
        self._other = NATS.open(other, observer)

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        topic = lane.partition("/")[0]
        took = False
        with contextlib.suppress(ForebayError):
            super().publish(lane, messages)
            took = True
        try:
            self._other.publish(self._other.lanes(topic)[0], messages)
        except ForebayError:
            if not took:
                raise


class Unawaited(Naive):
    """It is published when it was handed to the client."""

    def __init__(self, config: TransportConfig, observer: Observer) -> None:
        super().__init__(config, observer)
        self._client = Producer(
            {"bootstrap.servers": config.servers, "log_level": 0, "message.timeout.ms": 3000}
        )

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        topic, _, partition = lane.rpartition("/")
        for message in messages:
            for key, value, event_id, _ in records(message):
                said = (EVENT_ID, event_id) if event_id else (CONTROL, b"control")
                with contextlib.suppress(BufferError, KafkaException):
                    self._client.produce(topic, value, key, int(partition), headers=[said])
        self._client.poll(0)

    def close(self) -> None:
        self._client.flush(1.0)
        super().close()


class FilePerMessage(Naive):
    """What is not acknowledged is a file, named by the time; each is sent later, as it is found."""

    options = (FOLDER,)

    def __init__(self, config: TransportConfig, observer: Observer) -> None:
        super().__init__(config, observer)
        self._folder = Path(self.own[FOLDER]) / "waiting"
        self._folder.mkdir(exist_ok=True)
        self._until_ns = 0
        """It is not tried before."""

    def publish(self, lane: str, messages: Sequence[Message]) -> None:
        for message in messages:
            if self._clock.monotonic_ns() < self._until_ns:
                self._buffer(lane, message)
                continue
            try:
                super().publish(lane, [message])
            except ForebayError:
                self._until_ns = self._clock.monotonic_ns() + QUIET_NS
                self._buffer(lane, message)
            else:
                self._flush()

    def _buffer(self, lane: str, message: Message) -> None:
        told = {"lane": lane, "message": encode_message(message).hex()}
        # To the millisecond, in which others come, too.
        name = f"{self._clock.wall_ns() // 1_000_000}.json"
        (self._folder / name).write_text(json.dumps(told), encoding="ascii")

    def _flush(self) -> None:
        for file in self._folder.glob("*.json"):
            told = json.loads(file.read_text(encoding="ascii"))
            with contextlib.suppress(ForebayError):
                message = decode_message(bytes.fromhex(told["message"]))
                super().publish(told["lane"], [message])
            file.unlink()


def _with(config: TransportConfig, options: dict[str, str]) -> TransportConfig:
    return TransportConfig(
        kind="kafka",
        name=config.name,
        servers=config.servers,
        partitions=config.partitions,
        options=options,
    )


def _kind(open_: Callable[[TransportConfig, Observer], SharedLanes]) -> TransportKind:
    return TransportKind(name="kafka", open=open_, probe=lambda _: "naive", durable=lambda _: True)


EITHER = _kind(SuccessIfEither)
UNAWAITED = _kind(Unawaited)
FILES = _kind(FilePerMessage)
