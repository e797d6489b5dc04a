"""What ``forebay init`` writes."""

from __future__ import annotations

from typing import Final

from forebay.app.stores import DEFAULT

TEMPLATE: Final = f"""\
# Forebay. Every key can be left out; what is shown is the default unless marked.
# The same keys can be given as FOREBAY_DATA, FOREBAY_JOURNAL__LINGER_MS and so on.

# Where the journal, the database and the sockets live, seen from where forebay is started. Left
# out, it is the folder of this file if that is a data folder. "~" is a name like any other.
# data = "data"

# debug, info, warning or error; logs go to stderr.
log_level = "info"

# Name of this collector, kept with every frame.
collector = "collector-1"

# What to capture; repeat the table for more venues. This one is an example.
[[venues]]
name = "coinbase"
symbols = ["BTC-USD", "ETH-USD"]
# channels = ["trade"]        # kinds of event, or "all"; the venue's default unless said
# market = "spot"
# depth = 50                  # levels of a book, where the venue leaves the choice
# ws_url = "wss://..."        # elsewhere than the venue's public address
# rest_url = "https://..."
# credentials_file = "venue.toml"  # secrets, one KEY = "..." a line
# stale_after_s = 10.0        # a connection silent for longer is replaced; the venue's own
# reconnect_base_s = 0.5      # first wait between two tries; full jitter, cap 30 s
# symbols_per_connection = 100  # the venue's own; fewer make more connections
# plugin = "package.module:VENUE"  # a venue of your own

[journal]
linger_ms = 5.0               # how long a group's first frame waits for company; at rest twice
segment_mb = 64
max_pending_mb = 32           # sources pause above this much not yet captured
retain = "7d"                 # remove frames so long after receipt, once stored; "0": at once
# retain_gb = 100.0           # and never more than this; there is no cap unless one is set

[store]
kind = "{DEFAULT}"
# plugin = "package.module:STORE"  # a kind of your own instead
memory_limit_mb = 1024
parquet = true                # closed hours also as files under parquet/

[query]
timeout_s = 60.0              # of `forebay sql` while a capture runs

[fill]
enabled = true                # fill gaps from the venue's history
poll_s = 1.0

# Health, metrics and administration of this capture.
[http]
enabled = true
host = "127.0.0.1"
port = 8080                   # 0: any that is free; `forebay status` says which
# token_file = "token"        # administration is off without a token

# When a part counts as down. This table, log_level, http.token_file, journal.retain, retain_gb
# and query.timeout_s may be changed while it runs: edit, then send the process SIGHUP.
[resilience]
auto_recovery = true          # false: a breaker that opened waits for an operator
check_interval_s = 30.0       # how often a breaker that nobody calls is probed
recovery_hold_s = 10.0        # so long must the system be better before it is said to be
critical = []                 # services beside those that always are, like "coinbase-rest"

# [resilience.store]          # the defaults; [resilience.rest] has 5, 60.0 and 3,
# failure_threshold = 5       # [resilience.websocket] 3, 30.0 and 2:
# recovery_timeout_s = 60.0   # consecutive failures that open the breaker, how long it stays open,
# success_threshold = 1       # and probes that close it; timeout_s limits a call, not the store's
"""
