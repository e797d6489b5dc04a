"""How much of everything is tested: one table of counts, and what the inner loop leaves out.

``TIER`` names the tier: ``quick`` for the inner loop, ``test`` for every run (the default),
``soak`` for a night. Worlds, flips and histories have seeds that follow the tree of the last
commit, so that every commit meets others; the head of the output tells the number they follow,
and ``TEST_SEED`` gives it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TIERS = ("quick", "test", "soak")
TIER = os.environ.get("TIER") or "test"
if TIER not in TIERS:
    raise SystemExit(f"TIER is {TIER!r}; it is one of {', '.join(TIERS)}.")

COUNTS = {
    # what                                    quick       test        soak
    "simulated worlds":                     (     40,         40,    100_000),
    "worlds until a planted bug is found":  (     60,         60,      1_000),
    "worlds of a control":                  (     20,         20,        100),
    "worlds in another process":            (      4,          4,        200),
    "runs of 5000 flipped bits":            (      1,          1,        110),
    "runs of 500 crash histories":          (      1,          1,         46),
    "crash histories of a naive log":       (    100,        200,        400),
    "kills of a writer":                    (      5,          8,        200),
    "kills of a crossing":                  (      8,          8,         40),
    "fleets of bridges":                    (      1,          2,        100),
    "rows of a big store":                  (200_000,    200_000,  1_000_000),
    "events of an audit":                   (100_000,    150_000, 20_000_000),
    "rows of each kind":                    (      6,          6,         12),
    "events of an edition":                 (  1_000,      1_000,    100_000),
    "calls of a route":                     (      3,          3,        400),
    "any calls":                            (     50,         50,     20_000),
}  # fmt: skip
"""So many in each tier."""


def examples(most: int) -> int:
    """Return how many examples a property is tried with that should have ``most`` in a night."""
    return most if TIER == "soak" else max(10, most * 2 // 5)


EXAMPLES = examples(100)
"""Of a property that does not say how many it needs."""

DRILLS = (
    "tests/acceptance/test_exam_transport.py::test_processes_on_both_sides",
    "tests/acceptance/test_read_back.py::test_a_capture_that_runs_mends",
    "tests/acceptance/test_replay.py::test_a_real_book_at_the_end",
    "tests/acceptance/test_replay_kalshi.py::test_recorded_days",
    "tests/acceptance/test_replay_damaged.py::test_a_rebuild_tells",
    "tests/acceptance/test_secrets.py",
    "tests/properties/test_reading_as_columns.py::test_every_byte_at_every_place[l2update]",
    "tests/simulation/test_command.py::test_it_is_started_by_its_name",
    "tests/simulation/test_command.py::test_processes_give_the_same_as_one",
    "tests/simulation/test_controls.py::test_the_core_is_clean",
    "tests/simulation/test_core.py::test_a_world_that_depends_on_more_than_its_seed_is_noticed[nam",
    "tests/torture/test_kill_9.py::test_kills_lose_and_double_nothing[1]",
    "tests/unit/app/test_alternatives.py::test_down_for_hours_both_venues_end_as_they_truly_are[X",
    "tests/unit/app/test_download_mutants.py",
    "tests/unit/sources/websocket/test_changing.py::test_ten_thousand_markets_come_and_go[0",
    "tests/unit/sources/websocket/test_coming_back.py::test_after_an_hour_all_reconnect[free-sil",
    "tests/unit/sources/websocket/test_coming_back.py::test_after_an_hour_all_reconnect[paced",
)
"""Files, or tests of them, that are with the drills: what they try, a shorter test tries, too."""

NOT_QUICK = (
    "tests/acceptance/test_audit_at_scale.py",
    "tests/acceptance/test_audit_live.py",
    "tests/acceptance/test_bad_frames.py",
    "tests/acceptance/test_blocked_log.py",
    "tests/acceptance/test_books_live.py",
    "tests/acceptance/test_kalshi_books_live.py",
    "tests/acceptance/test_ccxt_watches_simulator.py",
    "tests/acceptance/test_cli.py",
    "tests/acceptance/test_cli_edges.py",
    "tests/acceptance/test_exam.py::test_a_store_in_memory_is_proved_and_refuted_as_well",
    "tests/acceptance/test_exam_transport.py::test_processes_on_both_sides",
    "tests/acceptance/test_first_capture.py",
    "tests/acceptance/test_first_process.py",
    "tests/acceptance/test_following_live.py",
    "tests/acceptance/test_gap_verdicts.py",
    "tests/acceptance/test_gaps_of_bars.py",
    "tests/acceptance/test_housekeeping_live.py",
    "tests/acceptance/test_http_live.py",
    "tests/acceptance/test_kill_torture.py",
    "tests/acceptance/test_kafka_faults.py",
    "tests/acceptance/test_kafka_server.py",
    "tests/acceptance/test_kafka_three_nodes.py",
    "tests/acceptance/test_large_books.py",
    "tests/acceptance/test_layout.py",
    "tests/acceptance/test_private_venue.py",
    "tests/acceptance/test_publishing.py",
    "tests/acceptance/test_prometheus.py",
    "tests/acceptance/test_read_back.py",
    "tests/acceptance/test_read_back_servers.py",
    "tests/acceptance/test_reading_live.py",
    "tests/acceptance/test_replay.py",
    "tests/acceptance/test_replay_kalshi.py::test_recorded_days",
    "tests/acceptance/test_replay_damaged.py",
    "tests/acceptance/test_wrong_configuration.py",
    "tests/conformance/test_cursors.py::test_any_life",
    "tests/conformance/test_kinds_and_audit.py",
    "tests/conformance/test_kinds_told_again.py",
    "tests/conformance/test_store_crashes.py",
    "tests/drills",
    "tests/properties/test_identity_classes.py::test_content_in_duckdb",
    "tests/properties/test_live_sums.py",
    "tests/properties/test_projection.py::test_where_steps_end",
    "tests/properties/test_reading_as_columns.py",
    "tests/unit/app/test_hourly.py",
    "tests/unit/app/test_rebuild.py",
    "tests/unit/cli/test_gaps.py",
    "tests/unit/cli/test_paths.py",
    "tests/unit/cli/test_shown.py",
    "tests/unit/domain/test_kinds.py::test_a_bad_row",
    "tests/unit/ops/test_alerts_withstand.py",
    "tests/unit/services/test_audit_classes.py",
    "tests/unit/services/test_audit_ledger.py",
    "tests/unit/services/test_audit_store.py",
    "tests/unit/services/test_audit_truth.py",
    "tests/unit/services/test_books.py",
    "tests/unit/services/test_guarded_delivery.py::test_commits_a_second",
    "tests/unit/stores/test_products.py",
)
"""Files, or tests of them, that the inner loop leaves to ``make test``: they take long."""


def count(what: str) -> int:
    """Return how many of ``what`` there are in this tier."""
    return COUNTS[what][TIERS.index(TIER)]


def _seed() -> int:
    """Return the number that seeds follow: ``TEST_SEED``, or one of the tree of HEAD."""
    if told := os.environ.get("TEST_SEED"):
        return int(told)
    root = Path(__file__).resolve().parents[1]
    asked = ["git", "-C", str(root), "rev-parse", "HEAD^{tree}"]
    tree = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return int(tree[:6] or "0", 16)


SEED = _seed()


def seeds(what: str, each: int = 1) -> range:
    """Return one seed for each of ``what``, ``each`` times as many; others for every commit."""
    first = SEED * 1_000
    return range(first, first + count(what) * each)
