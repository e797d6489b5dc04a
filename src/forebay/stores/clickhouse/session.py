"""Requests to one ClickHouse: columns go in and come out as Arrow, errors come out as ours."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import pyarrow as pa
from clickhouse_connect import get_client
from clickhouse_connect.driver.exceptions import ClickHouseError

from forebay.errors import ConfigError
from forebay.secret_files import read_secrets
from forebay.stores.clickhouse.errors import translate
from forebay.stores.clickhouse.replicas import replicated
from forebay.text import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self
    from urllib.parse import SplitResult

    from clickhouse_connect.driver.httpclient import HttpClient

    from forebay.stores.kind import StoreConfig

LOCAL: Final = "http://localhost:8123"
ANSWER_S: Final = 30
"""How long one request may take: a server that stands still is noticed after that."""
CONNECT_S: Final = 5
_MAY_BE_TOO_MUCH: Final = (
    *("read", "result", "timeout", "transfer"),
    *("group_by", "sort", "set", "join", "distinct"),
)
ALWAYS: Final[Mapping[str, object]] = {
    "wait_end_of_query": 1,
    "max_query_size": 64 << 20,  # ids that are looked for stand in the statement
    "output_format_arrow_string_as_string": 0,  # texts may be bytes
    "output_format_arrow_compression_method": "none",
    "session_timezone": "UTC",
    "join_use_nulls": 0,
    "do_not_merge_across_partitions_select_final": 0,
    "final": 0,
    "select_sequential_consistency": 1,  # of replicas: what a quorum has, read it
    "use_query_cache": 0,  # what is stored by now, not what once was
    "limit": 0,
    "offset": 0,
    # An answer that is cut short is an error.
    **{f"{what}_overflow_mode": "throw" for what in _MAY_BE_TOO_MUCH},
    **{f"{what}_overflow_mode_leaf": "throw" for what in ("read", "timeout")},
}
"""Sent with every request, so that whatever an administrator set in a profile changes nothing."""
INSERTING: Final[Mapping[str, object]] = {
    "async_insert": 0,  # acknowledged is stored, and one writer's bad row is no other's
    "insert_deduplicate": 1,
    "insert_quorum": "auto",  # of replicas: acknowledged is on most of them
    "insert_quorum_parallel": 0,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "input_format_null_as_default": 0,  # a missing value is never silently 0
    "input_format_arrow_allow_missing_columns": 1,
    "optimize_on_insert": 0,  # every row as it came: how many there are is checked after a crash
    "max_insert_block_size": 1 << 30,  # one insert is one block, all of it or nothing
    "min_insert_block_size_rows": 0,
    "min_insert_block_size_bytes": 0,
    "max_partitions_per_insert_block": 0,
}

NOTHING: Final[Mapping[str, object]] = {}

logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it raises what it says


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and as whom."""

    url: str = LOCAL
    database: str = "forebay"
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    """More for the client, by its own names."""
    replicated: bool = False
    cluster: str = ""
    """On which servers tables are made, see :func:`~.replicas.replicated`."""

    def __post_init__(self) -> None:
        """Raise :class:`~forebay.errors.ConfigError` for an address that is none."""
        with contextlib.suppress(ValueError):  # of a port that is no number
            parts = self._parts()
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
                return
        message = f"{self.url!r} is no address of ClickHouse's HTTP interface."
        raise ConfigError(message, hint="Write http://HOST:8123 or https://HOST:8443.")

    @classmethod
    def of(cls, config: StoreConfig) -> Self:
        """Return whom a configuration names; raises :class:`~forebay.errors.ConfigError`."""
        hidden = read_secrets(config.credentials_file, config.name or config.kind)
        options = {**config.options, **hidden}
        user, password = options.pop("user", ""), options.pop("password", "")
        cluster, is_replicated = options.pop("cluster", ""), options.pop("replicated", "false")
        return cls(
            config.url or LOCAL,
            config.database,
            user,
            password,
            options,
            replicated=bool(cluster) or is_replicated == "true",
            cluster=cluster,
        )

    def made(self, statement: str) -> str:
        """Return a statement that makes something, as it is for this target."""
        return replicated(statement, self.cluster) if self.replicated else statement

    def _parts(self) -> SplitResult:
        return urlsplit(self.url if "://" in self.url else f"http://{self.url}")

    def connect(self) -> HttpClient:
        """Return a client that is connected. Raises :class:`~forebay.errors.ForebayError`."""
        parts = self._parts()
        secure = parts.scheme == "https"
        own: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "send_receive_timeout": ANSWER_S,
            "compress": False,
            **self.options,
        }
        try:
            client = get_client(
                host=parts.hostname,
                port=parts.port or (8443 if secure else 8123),
                interface=parts.scheme,
                username=self.user or "default",
                password=self.password,
                query_retries=0,
                autogenerate_session_id=False,
                dedicated_pool=True,
                **own,
            )
        except ClickHouseError as error:
            raise translate(error) from error
        except (TypeError, ValueError) as error:
            message = f"The client of ClickHouse does not take its options: {error}."
            hint = "See `options` of the store, and its credentials_file, which has user, password "
            raise ConfigError(message, hint=hint + "and other secrets of the client.") from error
        made = cast("HttpClient", client)
        made.http_retries = 0
        return made


class ClickHouseSession:
    """Requests of one store, one after the other or from several threads; connects when asked."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._client: HttpClient | None = None
        self._deduplicating: Mapping[str, object] = NOTHING

    def client(self) -> HttpClient:
        """Return the client that all requests share."""
        with self._lock:
            if self._client is None:
                client = self.target.connect()
                self._deduplicating = _deduplicating(client)
                self._client = client
            return self._client

    def request(
        self,
        statement: str,
        body: bytes | None = None,
        *,
        events: str = "",
        settings: Mapping[str, object] = NOTHING,
    ) -> bytes:
        """Return the answer; every request comes through here.

        See :func:`~.errors.translate` for ``events``.
        """
        client = self.client()
        sent = {**ALWAYS, **settings}
        try:
            if body is None:
                return client.raw_query(statement, settings=sent, use_database=False)
            # The client repeats it once if the connection ends unanswered; the token sees to that.
            client.raw_insert(insert_block=b"\n".join((statement.encode(), body)), settings=sent)
        except ClickHouseError as error:
            raise translate(error, events=events) from error
        return b""

    def run(self, statement: str, **settings: object) -> None:
        """Execute what has no answer."""
        self.request(statement, settings=settings)

    def rows(self, statement: str, *, events: str = "") -> pa.Table:
        """Return what a statement reads; its texts are binary."""
        answer = self.request(f"{statement}\nFORMAT ArrowStream", events=events)
        if not answer:
            return pa.table({})
        with pa.ipc.open_stream(answer) as stream:
            return stream.read_all()

    def insert(
        self, table: str, columns: Sequence[str], body: bytes, token: str | None, events: str = ""
    ) -> None:
        """Insert one block of rows, unless one was inserted with the token lately; None: always.

        Without any token a server goes by the content, which is a token, too.
        """
        names = ", ".join(map(identifier, columns))
        statement = f"INSERT INTO {self.name(table)} ({names}) FORMAT ArrowStream"
        known = secrets.token_hex(16) if token is None else token
        self.client()
        named = {"insert_deduplication_token": known, **self._deduplicating}
        self.request(statement, body, events=events, settings={**INSERTING, **named})

    def name(self, table: str) -> str:
        """Return a table's whole name."""
        return f"{identifier(self.target.database)}.{identifier(table)}"

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _deduplicating(client: HttpClient) -> Mapping[str, object]:
    """Return what has inserts known again; the client's own list of settings may be cut short."""
    asked = "SELECT count() FROM system.settings WHERE name = 'deduplicate_insert'"
    try:
        found = client.raw_query(asked, settings=dict(ALWAYS), use_database=False)
    except ClickHouseError as error:
        raise translate(error) from error
    return {"deduplicate_insert": "enable"} if int(found) else NOTHING  # it counts, since 26


def encoded(rows: pa.Table) -> bytes:
    """Return rows as one block of an Arrow stream."""
    rows = rows.combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def decoded(body: bytes) -> pa.Table:
    """Return the rows of :func:`encoded`."""
    with pa.ipc.open_stream(body) as stream:
        return stream.read_all()
