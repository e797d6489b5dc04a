"""What Kafka and its client say went wrong, as errors of ours: one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from forebay.errors import (
    ConfigError,
    Corrupt,
    ForebayError,
    LaneLost,
    Permanent,
    Transient,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    Meaning = tuple[type[ForebayError], str]

_AWAY = "Is the broker running, and are its servers right? It is tried again."
_SLOW = "Some of it may be in the topic, and it is sent again; is the broker well?"
_WAIT = "It is tried again."
_ELECTION = "Another node takes over; it is tried again."
_GONE = "It is made again when it is asked for."
_SHARED = "Another member of the group reads on."
_IN_SYNC = "Bring nodes back, or lower min.insync.replicas of the topic; it is tried again."
_DISK = "See the broker's log: is its disk full? A broker whose disk is full ends."
_RIGHTS = "Give the user that right; it is tried again."
_SECRETS = "Check the user and the credentials file; it is tried again."
_REPLICAS = "Start more brokers, or lower replicas of [[transports]]; it is tried again."
_SIZE = "Raise max.message.bytes of the topic."
_TABLE = "Compare the [[transports]] table with the broker's limits."
_AGAIN = "A new producer sends it again."
_DAMAGED = "The broker's disk may be damaged: repair the topic from a replica, or from the journal."

CODES: Mapping[int, Meaning] = {
    # Nobody answers, or not in time.
    KafkaError._ALL_BROKERS_DOWN: (Unreachable, _AWAY),
    KafkaError._TRANSPORT: (Unreachable, _AWAY),
    KafkaError._RESOLVE: (Unreachable, "Is the name in servers right? It is tried again."),
    KafkaError._TIMED_OUT: (Unreachable, _AWAY),
    KafkaError._MSG_TIMED_OUT: (Unreachable, _SLOW),
    KafkaError.REQUEST_TIMED_OUT: (Unreachable, _SLOW),
    KafkaError.NETWORK_EXCEPTION: (Unreachable, _SLOW),
    KafkaError.BROKER_NOT_AVAILABLE: (Unreachable, _AWAY),
    # The cluster is not as it should be.
    KafkaError.NOT_ENOUGH_REPLICAS: (Transient, _IN_SYNC),
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: (Transient, _IN_SYNC),
    KafkaError.LEADER_NOT_AVAILABLE: (Transient, _ELECTION),
    KafkaError.NOT_LEADER_FOR_PARTITION: (Transient, _ELECTION),
    KafkaError.FENCED_LEADER_EPOCH: (Transient, _ELECTION),
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: (Transient, _ELECTION),
    KafkaError.COORDINATOR_NOT_AVAILABLE: (Transient, _ELECTION),
    KafkaError.NOT_COORDINATOR: (Transient, _ELECTION),
    KafkaError.KAFKA_STORAGE_ERROR: (Transient, _DISK),
    KafkaError.INVALID_REPLICATION_FACTOR: (Transient, _REPLICAS),
    # A topic is not there, or another one than it was.
    KafkaError.UNKNOWN_TOPIC_OR_PART: (Transient, _GONE),
    KafkaError._UNKNOWN_TOPIC: (Transient, _GONE),
    KafkaError._UNKNOWN_PARTITION: (Transient, _GONE),
    KafkaError.UNKNOWN_TOPIC_ID: (Transient, _GONE),
    KafkaError.INCONSISTENT_TOPIC_ID: (Transient, _GONE),
    # Others share the lanes among them without us.
    KafkaError.ILLEGAL_GENERATION: (LaneLost, _SHARED),
    KafkaError.UNKNOWN_MEMBER_ID: (LaneLost, _SHARED),
    KafkaError.STALE_MEMBER_EPOCH: (LaneLost, _SHARED),
    KafkaError.FENCED_MEMBER_EPOCH: (LaneLost, _SHARED),
    KafkaError._ASSIGNMENT_LOST: (LaneLost, _SHARED),
    KafkaError.REBALANCE_IN_PROGRESS: (Transient, _WAIT),
    KafkaError._MAX_POLL_EXCEEDED: (Transient, _WAIT),
    # It is not allowed: somebody may allow it, and nothing is dropped until then.
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (Transient, _RIGHTS),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (Transient, _RIGHTS),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (Transient, _RIGHTS),
    KafkaError._AUTHENTICATION: (Transient, _SECRETS),
    KafkaError.SASL_AUTHENTICATION_FAILED: (Transient, _SECRETS),
    KafkaError._SSL: (Transient, "Check the certificates; it is tried again."),
    # A producer is at its end.
    KafkaError._FATAL: (Transient, _AGAIN),
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER: (Transient, _AGAIN),
    KafkaError.DUPLICATE_SEQUENCE_NUMBER: (Transient, _AGAIN),
    KafkaError.UNKNOWN_PRODUCER_ID: (Transient, _AGAIN),
    KafkaError.INVALID_PRODUCER_EPOCH: (Transient, _AGAIN),
    KafkaError._PURGE_QUEUE: (Transient, _AGAIN),
    KafkaError._PURGE_INFLIGHT: (Transient, _AGAIN),
    # Never as it is.
    KafkaError.MSG_SIZE_TOO_LARGE: (Permanent, _SIZE),
    KafkaError.RECORD_LIST_TOO_LARGE: (Permanent, _SIZE),
    KafkaError.INVALID_RECORD: (Permanent, "Is there a validator on the topic?"),
    KafkaError.POLICY_VIOLATION: (Permanent, "Make the topic yourself, or change the policy."),
    KafkaError.INVALID_PARTITIONS: (ConfigError, _TABLE),
    KafkaError.INVALID_CONFIG: (ConfigError, _TABLE),
    KafkaError.TOPIC_EXCEPTION: (ConfigError, _TABLE),
    KafkaError.UNSUPPORTED_VERSION: (ConfigError, "Kafka 2.8 or newer is needed."),
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: (ConfigError, "Choose another compression.type."),
    KafkaError._INVALID_ARG: (ConfigError, "Compare the options with those of librdkafka."),
    # Not what was written.
    KafkaError._BAD_MSG: (Corrupt, _DAMAGED),
    KafkaError.INVALID_MSG: (Corrupt, _DAMAGED),
}
"""By code. What is not here is Transient: nothing is dropped for what nobody knows."""


def translated(error: KafkaError | KafkaException, what: str) -> ForebayError:
    """Return what an error of Kafka is to us; ``what`` says what was wanted."""
    told = reason(error)
    kind, hint = CODES.get(told.code(), (Transient, _WAIT))
    if told.fatal():
        kind, hint = Transient, _AGAIN
    return kind(f"Kafka: {what} failed: {told.str().rstrip('.')} ({told.name()}).", hint=hint)


def reason(error: KafkaError | KafkaException | SystemError) -> KafkaError:
    """Return the error that an exception of the client carries.

    What is raised where the client is waited for, while it calls back, comes as a ``SystemError``.
    """
    if isinstance(error, KafkaError):
        return error
    if isinstance(error, SystemError) and isinstance(error.__cause__, KafkaException):
        error = error.__cause__
    return error.args[0] if isinstance(error, KafkaException) else KafkaError(KafkaError._FAIL)
