"""What Kafka's codes mean for us."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from forebay.errors import ConfigError, Corrupt, ForebayError, Permanent, Transient, Unreachable
from forebay.transports.kafka.errors import CODES, translated
from tests.support.pages import page, section, table, ticked


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._ALL_BROKERS_DOWN, Unreachable),
        (KafkaError._MSG_TIMED_OUT, Unreachable),
        (KafkaError.NOT_ENOUGH_REPLICAS, Transient),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Transient),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Transient),
        (KafkaError.KAFKA_STORAGE_ERROR, Transient),
        (KafkaError.MSG_SIZE_TOO_LARGE, Permanent),
        (KafkaError.INVALID_PARTITIONS, ConfigError),
        (KafkaError._BAD_MSG, Corrupt),
    ],
)
def test_a_code_is_an_error_of_ours(code: int, kind: type[ForebayError]) -> None:
    error = translated(KafkaError(code), "publishing to t")
    assert type(error) is kind
    assert error.hint
    assert f"({KafkaError(code).name()})" in error.message
    assert "publishing to t" in error.message


def test_what_nobody_knows_is_tried_again() -> None:
    assert KafkaError.INVALID_GROUP_ID not in CODES
    assert type(translated(KafkaError(KafkaError.INVALID_GROUP_ID), "x")) is Transient


def test_an_exception_is_the_error_that_it_carries() -> None:
    error = KafkaError(KafkaError.POLICY_VIOLATION)
    assert str(translated(KafkaException(error), "x")) == str(translated(error, "x"))


def test_what_ends_a_producer_does_not_end_its_records() -> None:
    code = KafkaError.MSG_SIZE_TOO_LARGE
    assert type(translated(KafkaError(code), "x")) is Permanent
    assert type(translated(KafkaError(code, "said so", True), "x")) is Transient


def test_the_page_has_the_table() -> None:
    rows = table(section(page("explanation/kafka"), "Errors"), "code", "is", "what to do")
    told = {name: (kind, hint) for names, kind, hint in rows for name in ticked(names)}
    meant = {KafkaError(code).name(): each for code, each in CODES.items()}
    assert told == {name: (kind.__name__, hint) for name, (kind, hint) in meant.items()}
