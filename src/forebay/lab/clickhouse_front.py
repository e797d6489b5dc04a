"""ClickHouse's engine behind ClickHouse's HTTP interface, as a program: tests' stand-in for it.

``python -m forebay.lab.clickhouse_front PORT FOLDER`` serves the tables in a folder. The engine is
the real one, as a library (the package ``chdb``); what speaks HTTP is ours. It has no users beyond
one name and password, no native TCP, no sessions, no replicas, and sends its answers whole and
uncompressed. Every request has a connection to the engine of its own, so settings end with it.

What a drill needs and a server does not offer is a :class:`Tampering`: see ``/lab``.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import gzip
import http.server
import json
import re
import tempfile
import threading
import urllib.parse
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCKED_S = 10.0
"""How long a folder is waited for that another process, perhaps a dying one, still has."""
_RETRY_S = 0.05
_STATUS = dict.fromkeys((6, 26, 27, 36, 62), HTTPStatus.BAD_REQUEST)
_STATUS |= dict.fromkeys((47, 60, 81), HTTPStatus.NOT_FOUND)
_STATUS |= dict.fromkeys((164, 516), HTTPStatus.FORBIDDEN)
"""HTTP's status by the code of an exception; 500 for others."""
_UNKNOWN_CODE = 1002
_TRANSPORT = {
    *("query", "database", "default_format", "query_id", "user", "password", "compress"),
    *("decompress", "client_protocol_version", "quota_key", "role", "buffer_size"),
    *("session_id", "session_timeout", "session_check", "wait_end_of_query"),
}
"""Parameters of a request that are no settings."""
_INSERT = re.compile(rb"\s*INSERT\s+INTO\b", re.IGNORECASE)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)[ \t]*;?[ \t]*(?:\r?\n|$)", re.IGNORECASE)
_KILL = re.compile(r"\s*KILL\s+QUERY\b", re.IGNORECASE)
_CODE = re.compile(r"Code:\s*(\d+)")
_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Tampering:
    """What becomes of the next requests whose statement has the regular expression ``pattern``."""

    pattern: str
    at: Literal["before", "after"] = "after"
    """The engine has not seen the statement yet, or is done with it."""
    hold_s: float = 0.0
    """How long the request is held there; :meth:`EngineFrontEnd.release` lets it go on sooner."""
    end: Literal["go on", "close"] = "go on"
    """Whether it is answered then, or its connection closed without a word."""
    code: int = 0
    """The exception that is its answer, whatever the engine did; 0: none."""
    times: int = 1
    """Of how many requests."""


class EngineError(Exception):
    """What the engine said, with the code of its exception."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class EngineFrontEnd:
    """The engine, and what becomes of requests to it."""

    def __init__(self, folder: str, settings: Mapping[str, str], login: str) -> None:
        """``settings`` are of the profile that everybody has; ``login`` is name:password."""
        self.folder = folder
        self.settings = settings
        self.login = login
        self._changed = threading.Condition()
        self._tamperings: list[Tampering] = []
        self._released = 0
        self._held = 0
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._root = self._opened()  # keeps the engine open between requests

    def _opened(self) -> Any:  # noqa: ANN401 - the library has no types
        from chdb.state.sqlitelike import connect  # noqa: PLC0415 - half a second and half a GB

        for _ in range(int(LOCKED_S / _RETRY_S)):
            try:
                return connect(self.folder)
            except RuntimeError:  # another process has the folder
                threading.Event().wait(_RETRY_S)
        return connect(self.folder)

    # ---------------------------------------------------------------------- statements

    @contextlib.contextmanager
    def connection(self, asked: Mapping[str, str]) -> Iterator[Any]:
        """Open a connection with the database and the settings that a request asks for."""
        connection = self._opened()
        try:
            if database := asked.get("database"):
                connection.query(f"USE `{database}`")
            settings = {**self.settings, **_settings_of(asked)}
            if settings:
                listed = (f"{name} = {_quoted(value)}" for name, value in settings.items())
                connection.query("SET " + ", ".join(listed))
            yield connection
        finally:
            connection.close()

    def run(self, sql: bytes, data: bytes, asked: Mapping[str, str]) -> tuple[bytes, str, int]:
        """Run a statement; return the answer, its format, and how many rows were written.

        Raises :class:`EngineError`.
        """
        try:
            with self.connection(asked) as connection:
                formats = list(_FORMAT.finditer(sql[: 1 << 20]))
                if _INSERT.match(sql) and (formats or data):
                    return b"", "", _insert(connection, sql, data)
                told = asked.get("default_format") or "TabSeparated"
                if formats and not sql[formats[-1].end() :].strip():
                    told = formats[-1][1].decode()
                text = sql.decode().strip().rstrip(";")
                _one_statement(connection, text)
                if _KILL.match(text):  # the engine numbers queries itself: see _settings_of
                    text = text.replace("query_id", "Settings['log_comment']")
                named = {k[6:]: v for k, v in asked.items() if k.startswith("param_")}
                answer = connection.query(text, told, params=named or None)
                return (answer.bytes() if answer.size() else b""), told, 0
        except (RuntimeError, ValueError) as error:  # the library raises nothing finer
            found = _CODE.search(str(error))
            raise EngineError(int(found[1]) if found else _UNKNOWN_CODE, str(error)) from error

    # ---------------------------------------------------------------------- tampering

    def tamper(self, tampering: Tampering) -> None:
        with self._changed:
            self._tamperings.append(tampering)

    def release(self, *, forget: bool) -> None:
        """Let everything go on that is held; and forget what was to come, or not."""
        with self._changed:
            if forget:
                self._tamperings.clear()
            self._released += 1
            self._changed.notify_all()

    @property
    def held(self) -> int:
        """How many requests are held now."""
        return self._held

    def met(self, sql: bytes, at: Literal["before", "after"]) -> None:
        """Do to a request what it was given. Raises :class:`EngineError` or ConnectionError."""
        with self._changed:
            text = sql[: 1 << 14].decode(errors="replace")
            mine = (t for t in self._tamperings if t.at == at and re.search(t.pattern, text))
            if (found := next(mine, None)) is None:
                return
            place = self._tamperings.index(found)
            again = dataclasses.replace(found, times=found.times - 1)
            self._tamperings[place : place + 1] = [again] if again.times else []
            if found.hold_s:
                before = self._released
                self._held += 1
                self._changed.wait_for(lambda: self._released != before, found.hold_s)
                self._held -= 1
        if found.end == "close":
            raise ConnectionAbortedError
        if found.code:
            text = f"Code: {found.code}. DB::Exception: It was to be so. (LAB)"
            raise EngineError(found.code, text)


def _settings_of(asked: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a request; the id it gave its query is kept as one."""
    settings = {
        name: value
        for name, value in asked.items()
        if name not in _TRANSPORT and not name.startswith("param_") and _NAME.fullmatch(name)
    }
    if query_id := asked.get("query_id"):
        settings["log_comment"] = query_id
    return settings


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_statement(connection: Any, text: str) -> None:  # noqa: ANN401
    """Refuse several statements as a server does; the library would run them."""
    if ";" in text:
        connection.query(f"SELECT formatQuery({_quoted(text)})", "Null")


def _insert(connection: Any, sql: bytes, data: bytes) -> int:  # noqa: ANN401
    """Insert what follows the statement or stands in ``data``; return how many rows.

    By way of a file: the library's own way to insert bytes says that all is well when a row
    violates a constraint, or the disk is full, and nothing was stored.
    """
    told = "Values"
    if found := _FORMAT.search(sql):
        told, data, sql = found[1].decode(), sql[found.end() :] or data, sql[: found.start()]
    with tempfile.NamedTemporaryFile(prefix="forebay-insert-") as file:
        file.write(data)
        file.flush()
        whence = f"FROM INFILE {_quoted(file.name)} COMPRESSION 'none' FORMAT {told}"
        return int(connection.query(f"{sql.decode().strip()} {whence}").rows_read())


def _plain(body: bytes, encoding: str) -> bytes:
    """Return a body as it was before its ``Content-Encoding``."""
    if encoding in {"gzip", "x-gzip"}:
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding in {"lz4", "zstd"}:
        # Wherever the client has them from, which differs by the version of Python.
        from clickhouse_connect.driver import compression  # noqa: PLC0415

        unpacker: Any = getattr(compression, f"_{encoding}_decompressor")()
        plain: bytes = unpacker.decompress(body)
        return plain
    return body


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: EngineFrontEnd

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of every request."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        try:
            body = self._body()
            if url.path == "/ping":
                self._answer(b"Ok.\n")
            elif url.path == "/lab":
                self._lab(body)
            elif url.path == "/":
                self._statement(asked, body)
            else:
                self._answer(b"There is no handle " + url.path.encode(), HTTPStatus.NOT_FOUND)
        except EngineError as error:
            status = _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            told = {"X-ClickHouse-Exception-Code": str(error.code)}
            self._answer(str(error).encode() + b"\n", status, told)
        except ConnectionError:  # the client is gone, or is to think that we are
            self.close_connection = True

    def _body(self) -> bytes:
        """Return the whole body; one that ends early is not run, however complete it may look."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                parts.append(self._exactly(size))
                self._exactly(2)
            self._exactly(2)
            raw = b"".join(parts)
        else:
            raw = self._exactly(int(self.headers.get("Content-Length") or 0))
        return _plain(raw, self.headers.get("Content-Encoding", "").lower())

    def _exactly(self, size: int) -> bytes:
        read = self.rfile.read(size)
        if len(read) != size:
            raise ConnectionResetError
        return read

    def _statement(self, asked: dict[str, str], body: bytes) -> None:
        self._allow(asked)
        if (told := self.headers.get("X-ClickHouse-Format")) is not None:
            asked.setdefault("default_format", told)
        sql, data = asked.get("query", "").encode(), body
        if not _INSERT.match(sql):
            sql, data = (sql + b"\n" + body).strip() if sql else body, b""
        self.front.met(sql, "before")
        answer, told, written = self.front.run(sql, data, asked)
        self.front.met(sql, "after")
        summary = {"read_rows": "0", "written_rows": str(written), "written_bytes": "0"}
        headers = {
            "X-ClickHouse-Query-Id": asked.get("query_id", ""),
            "X-ClickHouse-Summary": json.dumps(summary),
            "X-ClickHouse-Timezone": "UTC",
        }
        self._answer(answer, headers=headers | ({"X-ClickHouse-Format": told} if told else {}))

    def _allow(self, asked: Mapping[str, str]) -> None:
        """Refuse whoever is not the one that may, if there is one."""
        name = self.headers.get("X-ClickHouse-User") or asked.get("user", "")
        word = self.headers.get("X-ClickHouse-Key") or asked.get("password", "")
        scheme, _, coded = self.headers.get("Authorization", "").partition(" ")
        said = base64.b64decode(coded).decode() if scheme == "Basic" else f"{name}:{word}"
        if self.front.login and said != self.front.login:
            name = said.partition(":")[0]
            text = f"{name}: Authentication failed: password is incorrect, or there is no such user"
            raise EngineError(516, f"Code: 516. DB::Exception: {text}. (AUTHENTICATION_FAILED)")

    def _lab(self, body: bytes) -> None:
        """Take what becomes of requests, ``release`` or ``forget``; tell how many are held."""
        if body in {b"release", b"forget"}:
            self.front.release(forget=body == b"forget")
        elif body:
            self.front.tamper(Tampering(**json.loads(body)))
        self._answer(json.dumps({"held": self.front.held}).encode())

    def _answer(
        self,
        body: bytes,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="clickhouse_front")
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    parser.add_argument("--set", action="append", default=[], help="name=value, for everybody")
    parser.add_argument("--login", default="", help="name:password of the one who may ask")
    given = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in given.set)
    _Handler.front = EngineFrontEnd(given.folder, settings, given.login)
    _Server(("127.0.0.1", given.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
