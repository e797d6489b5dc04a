"""Identity: the id of an event says the same everywhere and for ever."""

from __future__ import annotations

import hashlib
from uuid import RFC_4122, UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.domain.identity import (
    NATIVE_ID_LIMIT,
    digest_id,
    native_id,
    numbered,
    stream_prefix,
    uuids,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="|"), max_size=12)
NATIVES = st.integers(0, NATIVE_ID_LIMIT - 1)


def by_hand(venue: str, market: str, channel: str, symbol: str, native: int) -> str:
    """Build the id from the bits that the module's docstring draws, as text."""
    digest = hashlib.sha256(f"{venue}|{market}|{channel}|{symbol}".encode()).digest()
    key = "".join(f"{byte:08b}" for byte in digest)[:60]
    bits = key[:48] + "1000" + key[48:] + "10" + f"{native:062b}"
    return str(UUID(f"{int(bits, 2):032x}"))


def test_a_known_trade_has_the_id_that_it_had_in_the_first_release() -> None:
    prefix = stream_prefix("coinbase", "spot", "trade", "BTC-USD")
    assert str(native_id(prefix, 280_232)) == "ebeba404-b774-867a-8000-0000000446a8"


@given(NAMES, NAMES, NAMES, NAMES, NATIVES)
@example("coinbase", "spot", "trade", "SKL-BTC", 0)
@example("coinbase", "spot", "trade", "SKL-BTC", NATIVE_ID_LIMIT - 1)
def test_ids_equal_those_made_by_hand(
    venue: str, market: str, channel: str, symbol: str, native: int
) -> None:
    made = native_id(stream_prefix(venue, market, channel, symbol), native)
    assert str(made) == by_hand(venue, market, channel, symbol, native)


@given(NAMES, NATIVES)
def test_an_id_is_a_uuid_of_version_8_and_gives_the_native_id_back(
    symbol: str, native: int
) -> None:
    made = native_id(stream_prefix("v", "spot", "trade", symbol), native)
    assert made.version == 8
    assert made.variant == RFC_4122
    assert made.int % NATIVE_ID_LIMIT == native


@given(st.lists(NATIVES, min_size=1))
def test_ids_of_a_stream_sort_as_the_venue_numbered_them(natives: list[int]) -> None:
    prefix = stream_prefix("coinbase", "spot", "trade", "BTC-USD")
    ids = [native_id(prefix, native) for native in natives]
    assert [made.int % NATIVE_ID_LIMIT for made in sorted(ids)] == sorted(natives)
    assert sorted(map(str, ids)) == [str(made) for made in sorted(ids)]


@pytest.mark.parametrize("native", [-1, NATIVE_ID_LIMIT, 1 << 64])
def test_a_native_id_that_does_not_fit_is_refused(native: int) -> None:
    with pytest.raises(ValueError, match=str(native)):
        native_id(stream_prefix("v", "m", "c", "s"), native)


@given(st.lists(st.tuples(st.sampled_from("abc"), NATIVES), max_size=30))
def test_a_column_of_ids_equals_single_ids(pairs: list[tuple[str, int]]) -> None:
    prefixes = [stream_prefix("v", "spot", "trade", symbol) for symbol, _ in pairs]
    natives = [native for _, native in pairs]
    bases = np.array([(prefix, 0) for prefix in prefixes], dtype=np.uint64).reshape(-1, 2)
    column = uuids(numbered(bases, np.array(natives, dtype=np.int64)))
    single = [native_id(prefix, native) for prefix, native in zip(prefixes, natives, strict=True)]
    assert column.to_pylist() == single
    assert column.null_count == 0


def test_every_part_of_the_stream_is_in_the_id() -> None:
    streams = [
        ("coinbase", "spot", "trade", "BTC-USD"),
        ("kraken", "spot", "trade", "BTC-USD"),
        ("coinbase", "perp", "trade", "BTC-USD"),
        ("coinbase", "spot", "quote", "BTC-USD"),
        ("coinbase", "spot", "trade", "BTC-EUR"),
    ]
    assert len({stream_prefix(*stream) for stream in streams}) == len(streams)


def test_an_id_of_content_is_a_uuid_of_version_8_with_122_bits_of_the_digest() -> None:
    digest = hashlib.sha256(b"content").digest()
    bits = "".join(f"{byte:08b}" for byte in digest)[:122]
    made = digest_id(digest)
    assert f"{made.int:0128b}" == bits[:48] + "1000" + bits[48:60] + "10" + bits[60:]
    assert (made.version, made.variant) == (8, RFC_4122)
    assert digest_id(digest[:16]) == made
