"""Pages of docs/reference that follow from the code: ``make docs`` writes them.

``tests/unit/ops/test_metrics.py`` fails while a page is not what is made here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from forebay.ops import alerts
from forebay.ops.catalogue import SECTIONS, Metric
from tests.support import commands_page, configuration_page, tables_page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"

METRICS = """\
# Metrics

What `GET /metrics` of `forebay run` answers, in Prometheus' text format, or as OpenMetrics to
whoever asks for that, as Prometheus does. The page is made from the code:
`make docs`.

Every name begins with `forebay_`. Beside some of them the same numbers are told under the name in
the last column: dashboards of market-data systems that one may come from know it. Write new rules
and dashboards on the names with the prefix.

A counter ends in `_total`, a summary in `_sum` and `_count`, a histogram in `_bucket`, `_sum` and
`_count`. Counters start at 0 with the process that has them; `rate` and `increase` see through
that. Words are those of the [explanations](../explanation/journal.md).

* `forebay_buffer_utilisation` is an answer for each resource that can be full: `memory` is the
  share of `journal.max_pending_mb` that waits to be captured; `disk` is the journal's share of the
  space that it has or can get, its own bytes and the free ones. The alert looks at both.
* `forebay_events_total`: a frame is parsed after capture, so in the states `received` and
  `captured` frames are counted, and rows in `stored`. `verified` is what an audit answers, not a
  scrape.
* A trip is a transition to open; a refused call is none.
* `forebay_told_total`, `forebay_duplicates_total` and `forebay_flagged_total` have the `source`,
  the way by which it came: only what comes by `ws` is to be new, in time and in order. A poll or a
  page of history tells again what is known.
* `forebay_venue_clock_skew_seconds` is absent while a venue told fewer than ten events live in
  three minutes, or none in two of them.
* With an embedded store each failed commit is one of `forebay_database_connection_errors_total` and
  one of `forebay_total_insert_errors_total`.
* A process that does not answer has no metrics until it does. `forebay_service_up`,
  `forebay_collectors_ready`, `forebay_collectors_wanted`, `forebay_websocket_connections` and
  `forebay_ws_client_connected` are told for it.
"""
ALERTS = """\
# Alerts

Rules for Prometheus: `forebay alerts > forebay.rules.yml`, then in `prometheus.yml`

```yaml
rule_files: [forebay.rules.yml]
scrape_configs:
  - job_name: forebay
    scrape_interval: 15s  # a minute at most
    static_configs:
      - targets: ["127.0.0.1:8080"]
```

and in `alertmanager.yml` a receiver, so that an alert and its end reach a person:

```yaml
route:
  receiver: on-call
  group_by: [alertname, instance]
receivers:
  - name: on-call
    webhook_configs:
      - url: http://127.0.0.1:9000/
        send_resolved: true
```

Severities: info (have a look some time), warning (today), alarm (within the hour), critical (now).

Lost scrapes neither clear an alert nor make it wait anew: rules look back over five minutes. What a
process told last holds for so long after its death, a large lag for an hour; by then
ForebayDown or ForebayProcessDown is critical, and stays until it is back. To remove something for
good, take the target out of `prometheus.yml`: nothing of it fires six minutes later. A Prometheus
that cannot reach its Alertmanager tells it the end of an alert for a quarter of an hour, and an
Alertmanager whose receiver is away tries again at each `group_interval`, so the end is told late
rather than never.

Each alert is fired, cleared and held just below its threshold in `tests/unit/ops/test_alerts.py`,
and played with lost scrapes, new starts and deaths in `tests/unit/ops/test_alerts_withstand.py`.
The page is made from the code: `make docs`.
"""


def metrics() -> str:
    """The page of all metrics."""
    parts = [METRICS]
    for title, section in SECTIONS.items():
        parts += [
            f"\n## {title}\n",
            "| metric | kind | labels | what | beside |",
            "|---|---|---|---|---|",
        ]
        parts += map(_metric, section)
    return _page(parts)


def _page(parts: list[str]) -> str:
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def exposed_beside(metric: Metric) -> str:
    """The older name in a scrape; nothing if it has none."""
    return dataclasses.replace(metric, name=metric.beside).exposed if metric.beside else ""


def _metric(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    beside = f"`{exposed_beside(metric)}`" if metric.beside else ""
    cells = [f"`{metric.exposed}`", metric.kind, labels, metric.help, beside]
    return f"| {' | '.join(cells)} |"


def page_of_alerts() -> str:
    """The page of all alerts."""
    parts = [ALERTS]
    for group in yaml.safe_load(alerts.text())["groups"]:
        parts += [f"\n## {group['name']}\n"]
        parts += ["| alert | severity | fires when | for | what to do |", "|---|---|---|---|---|"]
        parts += map(_alert, group["rules"])
    return _page(parts)


def _alert(rule: dict[str, Any]) -> str:
    expression = rule["expr"].replace("|", "\\|")
    cells = [
        rule["alert"],
        rule["labels"]["severity"],
        f"`{expression}`",
        rule.get("for", ""),
        rule["annotations"]["description"].replace("{{ $labels.", "(").replace(" }}", ")"),
    ]
    return f"| {' | '.join(cells)} |"


PAGES = {
    "metrics": metrics,
    "alerts": page_of_alerts,
    "tables": tables_page.page,
    "commands": commands_page.page,
    "configuration": configuration_page.page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / f"{name}.md").write_text(page(), encoding="utf-8")
    # What is deployed has the rules as they are now, too.
    rules = FOLDER.parents[1] / "deploy" / "forebay.rules.yml"
    rules.write_text(alerts.text(), encoding="utf-8")
