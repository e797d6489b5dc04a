-- The audit's questions, in DuckDB's SQL. What stands between braces is put in by audit.py.
--
-- Sums travel as texts, since no transport agrees on 128-bit integers, and times as integer
-- nanoseconds, since few agree on those. A digest adds the high and the low 64 bits of ids and of
-- hashed canonical rows apart; MD5 as a number is little-endian, as the definition of a digest is.

-- name: sums
count(*) AS events,
sum((id >> 64)::HUGEINT)::VARCHAR AS ids_high, sum((id & {low})::HUGEINT)::VARCHAR AS ids_low,
sum((hash >> 64)::HUGEINT)::VARCHAR AS rows_high,
sum((hash & {low})::HUGEINT)::VARCHAR AS rows_low

-- name: keyed
-- Ids, times and hashed rows of one table; a row that is not {hashed} has no hash.
SELECT venue, market, {channel} AS channel, symbol, epoch_ns(event_ts) AS ns, venue_seq,
    event_id::UHUGEINT AS id, flags,
    CASE WHEN {hashed} THEN md5_number({canonical})::UHUGEINT END AS hash
FROM {table}

-- name: bucket
-- The whole number of times that {length} goes into ns, rounded down, also before 1970.
ns // {length} - (ns < 0 AND ns % {length} != 0)::BIGINT

-- name: account
-- All of a store, in one row: one statement sees one moment. Rows are added up as they come, by
-- stream and hour; nothing is sorted or kept by event.
WITH keyed AS ({keyed}),
hours AS (
    SELECT venue, market, channel, symbol, {hour} AS hour, {sums},
        min(ns) AS first_ns, max(ns) AS last_ns,
        min(venue_seq) AS first_number, max(venue_seq) AS last_number,
        count(*) FILTER (flags LIKE '%ambiguous%') AS ambiguous
    FROM keyed GROUP BY ALL)
SELECT {cursor} AS cursor,
    (SELECT list(h) FROM hours h) AS hours,
    (SELECT list(g) FROM (SELECT {gap} FROM gaps) g) AS gaps,
    (SELECT list(c) FROM coverage c) AS coverage,
    (SELECT list(e) FROM stream_epochs e) AS epochs,
    (SELECT count(DISTINCT letter_id) FROM dead_letters) AS letters,
    (SELECT count(DISTINCT letter_id) FROM dead_letters WHERE letter_id IN ({replayed}))
        AS replayed,
    (SELECT count(DISTINCT letter_id) FROM dead_letters WHERE letter_id NOT IN ({replayed})
        AND letter_id IN (SELECT letter_id FROM letter_states WHERE state = 'discarded'))
        AS discarded,
    (SELECT count(*) FROM conflicts) AS conflicts

-- name: cursor
(SELECT {{'log_id': any_value(log_id), 'seq': any_value(seq)}} FROM cursors
    WHERE consumer = {consumer})

-- name: minutes
SELECT {cursor} AS cursor, (SELECT list(m) FROM (
    SELECT {minute} AS minute, {sums} FROM ({keyed} WHERE {where}) GROUP BY ALL) m) AS minutes

-- name: rows
-- Rows as the audit compares them, beside the cursor of the same moment; one row at least.
SELECT c.cursor, r.* FROM (SELECT {cursor} AS cursor) c LEFT JOIN (
    SELECT event_id::VARCHAR AS event_id, {canonical} AS canonical, venue, market, symbol,
        epoch_ns(event_ts) AS event_ns, epoch_ns(received_ts) AS received_ns, venue_seq, seq
    FROM {table} WHERE {where}) r ON true
