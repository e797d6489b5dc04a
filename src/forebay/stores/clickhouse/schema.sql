-- The tables of a Forebay database in ClickHouse. What stands between braces is put in by ddl.py;
-- the columns of rows come from the Arrow schemas.
--
-- Whoever reads asks the views, which have the names that tables have in every store. A view shows
-- one row of each key even before the server has merged parts, and whatever its profile says.
--
-- {kept} are the settings of how rows are kept: how many of a table's last inserts are remembered by
-- their token, and that an insert is on the disk when it is acknowledged.

-- name: meta
-- Which layout this is.
CREATE TABLE IF NOT EXISTS {meta} (
    schema_version UInt32, made DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY schema_version

-- name: commits
-- The log of commits: what each is about to store, written before anything of it is.
-- Bodies are Arrow streams under zstd; their sizes are those without it.
-- No partitions: a token is remembered by partition, and one step must be one step.
CREATE TABLE IF NOT EXISTS {commits} (
    chain String, step Int64, version Int64, writer String,
    at DateTime64(9, 'UTC') DEFAULT now64(9),
    kinds Array(String), tables Array(String), parts Array(String),
    sizes Array(Int64), bodies Array(String) CODEC(NONE)
) ENGINE = MergeTree ORDER BY (chain, step)
TTL toDateTime(at) + INTERVAL 1 DAY
SETTINGS {kept}, ttl_only_drop_parts = 1,
    max_bytes_to_merge_at_max_space_in_pool = 1000000000

-- name: state
-- Cursors, streams, and how far each chain of commits is applied: one insert moves them together.
CREATE TABLE IF NOT EXISTS {state} (
    kind LowCardinality(String), consumer String,
    venue String, market String, channel String, symbol String,
    version Int64, log_id String, seq Int64, step Int64, writer String,
    unit LowCardinality(String),
    origins Array(LowCardinality(String)), epochs Array(String),
    firsts Array(Int64), lasts Array(Int64),
    gap_epochs Array(String), gap_firsts Array(Int64), gap_lasts Array(Int64),
    gap_reasons Array(LowCardinality(String)), gap_states Array(LowCardinality(String)),
    spoken Array(String), spoken_lasts Array(Int64),
    ordinals String
) ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, consumer, venue, market, channel, symbol)
SETTINGS {kept}

-- name: events
-- Of each key the row with the greatest rank stays, which is the one that was stored first.
CREATE TABLE IF NOT EXISTS {table} ({columns}, rank Int64)
ENGINE = ReplacingMergeTree(rank)
PARTITION BY toYYYYMM(event_ts)
PRIMARY KEY (venue, market, symbol, event_ts)
ORDER BY (venue, market, symbol, event_ts, event_id)
SETTINGS {kept}

-- name: dead_letters
CREATE TABLE IF NOT EXISTS {table} ({columns}, rank Int64)
ENGINE = ReplacingMergeTree(rank) ORDER BY letter_id
SETTINGS {kept}

-- name: letter_states
CREATE TABLE IF NOT EXISTS {table} ({columns}, rank Int64)
ENGINE = ReplacingMergeTree(rank) ORDER BY (letter_id, state, run)
SETTINGS {kept}

-- name: conflicts
CREATE TABLE IF NOT EXISTS {table} (
    event_id UUID, `table` LowCardinality(String), received_ts DateTime64(9, 'UTC'),
    stored String, incoming String, rank Int64
) ENGINE = ReplacingMergeTree(rank) ORDER BY (event_id, incoming)
SETTINGS {kept}

-- name: rows_view
CREATE VIEW IF NOT EXISTS {view} AS SELECT {columns} FROM {table} FINAL

-- name: cursors_view
CREATE VIEW IF NOT EXISTS {view} AS
SELECT consumer, log_id, seq FROM {state} FINAL WHERE kind = 'cursor'

-- name: coverage_view
CREATE VIEW IF NOT EXISTS {view} AS
SELECT venue, market, channel, symbol, unit, toString(o) AS origin, e AS epoch, f AS first, l AS last
FROM {state} FINAL ARRAY JOIN origins AS o, epochs AS e, firsts AS f, lasts AS l
WHERE kind = 'coverage'

-- name: gaps_view
CREATE VIEW IF NOT EXISTS {view} AS
SELECT venue, market, channel, symbol, unit, e AS epoch, f AS first, l AS last,
    toString(r) AS reason, toString(s) AS state
FROM {state} FINAL
ARRAY JOIN gap_epochs AS e, gap_firsts AS f, gap_lasts AS l, gap_reasons AS r, gap_states AS s
WHERE kind = 'coverage'

-- name: stream_epochs_view
CREATE VIEW IF NOT EXISTS {view} AS
SELECT venue, market, channel, symbol, e AS epoch, l AS last
FROM {state} FINAL ARRAY JOIN spoken AS e, spoken_lasts AS l WHERE kind = 'coverage'

-- name: stream_ordinals_view
CREATE VIEW IF NOT EXISTS {view} AS
SELECT venue, market, channel, symbol, ordinals AS state
FROM {state} FINAL WHERE kind = 'ordinals'
