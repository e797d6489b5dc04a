"""What NATS refuses and what its client raises, as errors of ours: one table each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats.errors

from forebay.errors import ConfigError, ForebayError, Permanent, Transient, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    Meaning = tuple[type[ForebayError], str]


class ServerRefused(Exception):
    """JetStream refused what it was asked for; ``number`` is its ``err_code``."""

    def __init__(self, answer: Mapping[str, object], what: str) -> None:
        super().__init__(answer)
        self.number = int(str(answer.get("err_code", 0)))
        self.code = int(str(answer.get("code", 0)))
        self.description = str(answer.get("description", ""))
        self.what = what


class Forbidden(nats.errors.Error):
    """The user may not publish or subscribe there: the server says so beside, not in an answer."""


NOT_FOUND = 10059
"""There is no such stream."""
NO_MESSAGE = 10037
WRONG_LAST = 10070
"""Another message than expected was the last one."""
WRONG_SEQUENCE = frozenset({10071, 10164})
"""Another message than expected was the last one of its subject."""
DUPLICATE = 10201
"""A batch has an id that the stream remembers: none of it was stored."""
NO_BATCHES = 10174
NO_ROOM = frozenset({10002, 10023, 10028, 10047, 10077})
"""Limits of a stream, of an account and of a server: there may be room later."""

_ENABLE = "Enable JetStream on the server, and for the account; it is tried again."
_ATOMIC = "Allow batches: nats stream edit NAME --allow-batch, of nats-server 2.12.1 or newer."
_ROOM = "Let what is old expire, or raise the limit; it is tried again."
_WAIT = "It is tried again; nats stream report says how the cluster is."
_PEERS = "Start more servers, or lower replicas of [[transports]]; it is tried again."
_SUBJECTS = "Another stream has these subjects: delete it, or take them from it; it is tried again."
_TABLE = "Compare the [[transports]] table with the limits of the server and the account."

NUMBERS: Mapping[int, Meaning] = {
    # Nobody leads, or nobody may.
    10005: (Transient, _PEERS),
    10008: (Transient, _WAIT),
    10009: (Transient, _WAIT),
    10118: (Transient, _WAIT),
    NOT_FOUND: (Transient, "It is made again when its topic is asked for."),
    # There is no room: nothing is dropped until there is.
    10002: (Transient, _ROOM),
    10023: (Transient, _ROOM),
    10027: (Transient, _ROOM),
    10028: (Transient, _ROOM),
    10047: (Transient, _ROOM),
    10077: (Transient, _ROOM),
    # An operator can mend it where it is.
    10039: (Transient, _ENABLE),
    10060: (Transient, _SUBJECTS),
    10065: (Transient, _SUBJECTS),
    10076: (Transient, _ENABLE),
    10109: (Transient, "Somebody has sealed the stream: delete it; it is tried again."),
    NO_BATCHES: (Transient, _ATOMIC),
    10177: (Transient, _ATOMIC),
    10199: (Transient, "Raise max_batch_size of the server to 1000 or more; it is tried again."),
    # Only another configuration can.
    10052: (ConfigError, _TABLE),
    10058: (ConfigError, _TABLE),
    10074: (ConfigError, "Set replicas = 1, or name a cluster in servers."),
    10113: (ConfigError, "Set max_bytes in the options of [[transports]]."),
    10122: (ConfigError, "Lower max_bytes in the options of [[transports]]."),
    # It will never be taken as it is.
    10054: (Permanent, "Raise max_msg_size of the stream."),
}
"""By ``err_code``. What is not here is Transient: nothing is dropped for what nobody knows."""

_SECRETS = "Check the user, the password or the credentials; it is tried again."
DRIVER: Mapping[type[Exception], Meaning] = {
    nats.errors.AuthorizationError: (Transient, _SECRETS),
    nats.errors.InvalidUserCredentialsError: (Transient, _SECRETS),
    Forbidden: (Transient, "Give the user that permission; it is tried again."),
    nats.errors.MaxPayloadError: (Permanent, "Raise max_payload of the server."),
    nats.errors.BadSubjectError: (Permanent, ""),
    nats.errors.SecureConnRequiredError: (ConfigError, "Write tls:// before the server."),
    nats.errors.SecureConnWantedError: (ConfigError, "Write nats:// before the server."),
    nats.errors.NoRespondersError: (Transient, _ENABLE),
    nats.errors.Error: (Unreachable, "It is tried again; is the server running?"),
    TimeoutError: (Unreachable, "It is tried again; is the server well?"),
    OSError: (Unreachable, "It is tried again; is the server running?"),
}
"""By class: the first one that an error is of."""
DRIVER_ERRORS = (ServerRefused, nats.errors.Error, TimeoutError, OSError)


def translated(error: Exception, where: str) -> ForebayError:
    """Return what an error of NATS is to us; ``where`` names the servers."""
    if isinstance(error, ServerRefused):
        kind, hint = NUMBERS.get(error.number, (Transient, _WAIT))
        said = f"{error.description} ({error.number})"
        return kind(f"NATS refuses {error.what}: {said}.", hint=hint)
    kind, hint = next(each for known, each in DRIVER.items() if isinstance(error, known))
    said = str(error).removeprefix("nats: ") or type(error).__name__
    return kind(f"NATS at {where}: {said}.", hint=hint)
