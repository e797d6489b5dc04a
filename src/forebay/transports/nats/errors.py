"""What NATS refuses and what its client raises, as errors of ours: one table each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import nats.errors

from forebay.errors import ConfigError, ForebayError, Permanent, Transient, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refused(Exception):
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
DUPLICATE = 10201
"""A batch has an id that the stream remembers: none of it was stored."""
NO_ROOM = frozenset({10077, 10047, 10023, 10028})
"""Limits of a stream, of an account and of a server: there may be room later."""

_ENABLE = "Enable JetStream in the server's configuration, and for the account."
_ATOMIC = "Allow it: nats stream edit NAME --allow-batch. It needs nats-server 2.12 or newer."
_LIMITS = "Let what is old expire, or raise the limit; it is tried again."
_WAIT = "It is tried again; nats stream report says how the cluster is."
_SUBJECTS = "Another stream has these subjects: delete it, or take them from it."


class Verdict(NamedTuple):
    """What an error of NATS is to us."""

    error: type[ForebayError]
    hint: str


NUMBERS: Mapping[int, Verdict] = {
    10003: Verdict(ConfigError, "The server's and the account's names of JetStream differ."),
    10005: Verdict(Transient, "Are enough servers up for the replicas? " + _WAIT),
    10008: Verdict(Transient, _WAIT),
    10009: Verdict(Transient, _WAIT),
    10023: Verdict(Transient, _LIMITS),
    10028: Verdict(Transient, _LIMITS),
    10039: Verdict(ConfigError, _ENABLE),
    10047: Verdict(Transient, _LIMITS),
    10052: Verdict(ConfigError, "Compare the [[transports]] table with the server's limits."),
    10054: Verdict(Permanent, "Raise max_msg_size of the stream."),
    10058: Verdict(ConfigError, "Delete the stream, or give its limits in [[transports]]."),
    NOT_FOUND: Verdict(Transient, "It is made again when its topic is asked for."),
    10060: Verdict(ConfigError, _SUBJECTS),
    10065: Verdict(ConfigError, _SUBJECTS),
    10074: Verdict(ConfigError, "Set replicas = 1, or name a cluster in servers."),
    10076: Verdict(ConfigError, _ENABLE),
    10077: Verdict(Transient, _LIMITS),
    10109: Verdict(Permanent, "Unseal the stream: it was sealed by somebody."),
    10118: Verdict(Transient, _WAIT),
    10174: Verdict(ConfigError, _ATOMIC),
    10199: Verdict(ConfigError, "Raise max_batch_size of the server to 1000 or more."),
}
"""By ``err_code``. What is not here is Transient: nothing is dropped for what nobody knows."""

_SECRETS = "Check the user, the password or the credentials; it is tried again."
DRIVER: Mapping[type[Exception], Verdict] = {
    nats.errors.AuthorizationError: Verdict(Transient, _SECRETS),
    nats.errors.InvalidUserCredentialsError: Verdict(Transient, _SECRETS),
    Forbidden: Verdict(Transient, "Give the user that permission; it is tried again."),
    nats.errors.MaxPayloadError: Verdict(Permanent, "Raise max_payload of the server."),
    nats.errors.BadSubjectError: Verdict(Permanent, ""),
    nats.errors.BadHeaderError: Verdict(Permanent, ""),
    nats.errors.SecureConnRequiredError: Verdict(ConfigError, "Write tls:// before the server."),
    nats.errors.SecureConnWantedError: Verdict(ConfigError, "Write nats:// before the server."),
    nats.errors.NoRespondersError: Verdict(Transient, _ENABLE + " It is tried again."),
    nats.errors.Error: Verdict(Unreachable, "It is tried again; is the server running?"),
    TimeoutError: Verdict(Unreachable, "It is tried again; is the server well?"),
    OSError: Verdict(Unreachable, "It is tried again; is the server running?"),
}
"""By class: the first one that an error is of."""
DRIVER_ERRORS = (Refused, nats.errors.Error, TimeoutError, OSError)


def translated(error: Exception, where: str) -> ForebayError:
    """Return what an error of NATS is to us; ``where`` names the servers."""
    if isinstance(error, Refused):
        kind, hint = NUMBERS.get(error.number, Verdict(Transient, _WAIT))
        said = f"{error.description} ({error.number})"
        return kind(f"NATS refuses {error.what}: {said}.", hint=hint)
    kind, hint = next(each for known, each in DRIVER.items() if isinstance(error, known))
    said = str(error).removeprefix("nats: ") or type(error).__name__
    return kind(f"NATS at {where}: {said}.", hint=hint)
