"""Arrow tables as bytes, for the way between processes."""

from __future__ import annotations

import pyarrow as pa


def encode_arrow(table: pa.Table) -> bytes:
    """Return a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def decode_arrow(body: bytes) -> pa.Table:
    """Read what :func:`encode_arrow` wrote."""
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()
