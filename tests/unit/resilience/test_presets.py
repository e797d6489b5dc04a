"""The named configurations are what the requirements say."""

from __future__ import annotations

import pytest

from forebay.resilience import BreakerConfig, FailureRate, RetryConfig, presets

RATE = FailureRate(rate=0.5, seconds=60.0, minimum_calls=10)


@pytest.mark.parametrize(
    ("preset", "numbers"),
    [
        (presets.CLICKHOUSE, (3, 120, 30, 2, RATE)),
        (presets.REDIS, (5, 30, 5, 3, RATE)),
        (presets.FIRESTORE, (8, 60, 10, 3, RATE)),
        (presets.EXCHANGE_API, (5, 60, None, 3, None)),
        (presets.WEBSOCKET, (3, 30, None, 2, None)),
        (presets.CLICKHOUSE_BRIDGE, (5, 60, None, 1, None)),
    ],
)
def test_thresholds(preset: BreakerConfig, numbers: tuple[object, ...]) -> None:
    assert numbers == (
        preset.failure_threshold,
        preset.recovery_timeout,
        preset.timeout,
        preset.success_threshold,
        preset.window,
    )


def test_retries() -> None:
    def numbers(config: RetryConfig) -> tuple[object, ...]:
        return (config.attempts, config.base, config.factor, config.cap, config.jitter)

    assert numbers(presets.WAITED_FOR) == (3, 1, 2, 30, 0.1)
    assert numbers(presets.WAITED_FOR_EXCHANGE) == (5, 2, 2, 30, 0.1)
    assert presets.ENDLESS.attempts is None
    assert (presets.ENDLESS.full_jitter, presets.ENDLESS.cap) == (True, 30)
