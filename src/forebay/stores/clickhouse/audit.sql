-- The audit's questions, in ClickHouse's SQL. What stands between braces is put in by audit.py.
--
-- Events are counted in the tables of rows, where one that was stored twice is there twice; the
-- views that people read show it once. MD5 as a number is little-endian, as the definition of a
-- digest is, and sums of UInt128 wrap as it does; numbers of 128 bits travel as texts.
--
-- Several statements are not of one moment, beside a store that is written to. So the moment is
-- that of `state`, which is asked first and has cursor, coverage and gaps in one table, moved by
-- one insert; and of rows asked later, those that are {ahead} of that cursor are left out: frames
-- of the journal that it reads, from where it goes on reading. Rows before it were all stored
-- before it moved.
--
-- A part whose bytes are not what was written fails every statement that reads it. It counts as
-- not there, so that the audit names the hours it had, and the rest is audited.

-- name: state
SELECT kind, log_id, seq, venue, market, channel, symbol, unit, origins, epochs, firsts, lasts,
    gap_epochs, gap_firsts, gap_lasts, gap_reasons, gap_states, spoken, spoken_lasts
FROM state FINAL WHERE kind = 'coverage' OR (kind = 'cursor' AND consumer = {consumer})

-- name: cursor
SELECT log_id, seq FROM cursors WHERE consumer = {consumer}

-- name: ahead
log_id = {log_id} AND seq >= {seq}

-- name: sums
count() AS events, toString(sum(id)) AS ids, toString(sum(hash)) AS hashes

-- name: keyed
-- Ids, times and hashed rows of one table; of a row that is not {hashed}, the hash is 0.
SELECT venue, market, {channel} AS channel, symbol, toUnixTimestamp64Nano(event_ts) AS ns,
    venue_seq, toUInt128(event_id) AS id, position(flags, 'ambiguous') > 0 AS is_ambiguous,
    if({hashed}, reinterpretAsUInt128(MD5({canonical})), toUInt128(0)) AS hash
FROM {table} WHERE NOT ({ahead}) AND {whole}

-- name: hours
-- Rows are added up as they come, by stream and hour; nothing is sorted or kept by event.
SELECT venue, market, channel, symbol, {hour} AS hour, {sums}, min(ns) AS first_ns,
    max(ns) AS last_ns, min(venue_seq) AS first_number, max(venue_seq) AS last_number,
    countIf(is_ambiguous) AS ambiguous
FROM ({keyed}) GROUP BY venue, market, channel, symbol, hour

-- name: bucket
-- The whole number of times that {length} goes into ns, rounded down, also before 1970.
intDiv(ns, {length}) - (ns < 0 AND ns % {length} != 0)

-- name: others
-- What is not of one stream and hour.
WITH known AS (SELECT DISTINCT letter_id FROM dead_letters_rows WHERE NOT ({ahead})),
settled AS ({replayed})
SELECT (SELECT count() FROM known) AS letters,
    (SELECT count() FROM known WHERE letter_id IN settled) AS replayed,
    (SELECT count() FROM known WHERE letter_id NOT IN settled AND letter_id IN (
        SELECT letter_id FROM letter_states WHERE state = 'discarded')) AS discarded,
    (SELECT count() FROM conflicts) AS conflicts

-- name: minutes
SELECT {minute} AS minute, {sums} FROM ({keyed} AND {where}) GROUP BY minute

-- name: rows
SELECT toString(event_id) AS id, {canonical} AS canonical, venue, market, symbol,
    toUnixTimestamp64Nano(event_ts) AS event_ns, toUnixTimestamp64Nano(received_ts) AS received_ns,
    venue_seq, seq
FROM {table} WHERE NOT ({ahead}) AND {whole} AND {where}

-- name: parts
SELECT name, formatDateTime(min_time, '%Y-%m-%dT%HZ', 'UTC') AS first,
    formatDateTime(max_time, '%Y-%m-%dT%HZ', 'UTC') AS last
FROM system.parts
WHERE database = currentDatabase() AND table = {table} AND active ORDER BY name

-- name: part
-- Reads every column of a part.
SELECT sum(cityHash64(*)) AS read FROM {table} WHERE _part = {part}
