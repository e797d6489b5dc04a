"""The command line: one file a verb."""

from __future__ import annotations

from forebay.app.wiring import streams

streams.prepare()  # before anything opens a file, or looks at a stream
