"""Kalshi's conversation: one subscription, its replies and refusals, and signatures."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.errors import ConfigError
from forebay.sources.kalshi import VENUE
from forebay.sources.kalshi.ages import BEHIND_NS, BOUND_NS, EVERY_NS, FEWEST, Ages
from forebay.sources.kalshi.connector import SOCKET_PATH, KalshiSession
from forebay.sources.kalshi.recordings import Restarts
from forebay.sources.venue import NOTHING, ConnectionPurpose
from tests.support.kalshi import MILLISECOND, SECOND, T0, as_json, delta, snapshot, trade

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.sources.venue import MessageVerdict

NOW = T0 * MILLISECOND
KINDS = ("trade", "book_snapshot", "book_delta", "ticker")


class Talk:
    """A session and the commands that it sent."""

    def __init__(self, *symbols: str, kinds: tuple[str, ...] = KINDS) -> None:
        asked = ConnectionPurpose(symbols=symbols or ("KA", "KB"), channels=kinds)
        self.session = KalshiSession(asked)
        self.sent = [json.loads(message) for message in self.session.opened(NOW)]

    def hear(self, message: dict[str, Any]) -> MessageVerdict:
        verdict = self.session.received(as_json(message), NOW)
        self.sent += map(json.loads, verdict.send)
        return verdict

    def subscribed(self, channel: str, sid: int, number: int = 1) -> MessageVerdict:
        told = {"channel": channel, "sid": sid}
        return self.hear({"id": number, "type": "subscribed", "msg": told})

    def error(self, code: int, number: int | None = None, **more: object) -> MessageVerdict:
        head = {} if number is None else {"id": number}
        return self.hear({**head, "type": "error", "msg": {"code": code, "msg": "so"}, **more})

    def change(self, added: tuple[str, ...], removed: tuple[str, ...] = ()) -> None:
        self.sent = [json.loads(each) for each in self.session.change(added, removed, NOW)]


def streams(*kinds: str) -> set[tuple[str, str]]:
    return {(kind, symbol) for kind in kinds for symbol in ("KA", "KB")}


# ---------------------------------------------------------------------- subscription


def test_one_subscription_asks_for_all_channels_and_each_is_accepted_for_itself() -> None:
    talk = Talk()
    assert talk.sent == [{"id": 1, "cmd": "subscribe", "params": {
        "channels": ["orderbook_delta", "trade", "ticker"], "market_tickers": ["KA", "KB"],
        "use_yes_price": False, "send_initial_snapshot": True}}]  # fmt: skip
    books = talk.subscribed("orderbook_delta", 1)
    assert books.accepted == streams("book_snapshot", "book_delta")
    assert talk.subscribed("trade", 2).accepted == streams("trade")
    assert talk.hear({"type": "quake"}) is NOTHING
    assert talk.session.received(b"junk", NOW) is NOTHING
    odds: tuple[object, ...] = ([], {}, None, 7)
    for odd in odds:
        assert talk.hear({"type": odd}) is NOTHING
        assert talk.hear({"type": "subscribed", "msg": {"channel": odd, "sid": 9}}) is NOTHING
    assert Talk(kinds=("trade",)).sent[0]["params"]["channels"] == ["trade"]


def test_of_several_channels_the_one_that_is_refused_is_found() -> None:
    talk = Talk()
    assert not talk.error(8, 1).refused
    assert [each["params"]["channels"] for each in talk.sent[1:]] == [
        ["orderbook_delta"], ["trade"], ["ticker"]]  # fmt: skip
    assert talk.subscribed("trade", 1, talk.sent[2]["id"]).accepted == streams("trade")
    refused = talk.error(8, talk.sent[3]["id"])
    assert set(refused.refused) == streams("ticker")
    assert refused.complaint == "error 8: so"


def test_a_channel_that_is_given_is_not_asked_for_a_second_time() -> None:
    """Its changes would be told twice, and each would be an event of its own."""
    talk = Talk()
    talk.subscribed("orderbook_delta", 1)
    talk.error(8, 1)
    assert [each["params"]["channels"] for each in talk.sent[1:]] == [["trade"], ["ticker"]]
    talk.subscribed("orderbook_delta", 4)
    talk.change(("KC",), ("KA",))
    actions = [(each["params"]["action"], each["params"]["sids"]) for each in talk.sent
               if each["cmd"] == "update_subscription"]  # fmt: skip
    assert actions == [("add_markets", [1]), ("delete_markets", [1]), ("delete_markets", [4])]


@pytest.mark.parametrize("code", [9, 10, 25, 1, 17, 18, 27])
def test_what_ends_a_subscription_ends_the_connection(code: int) -> None:
    assert Talk().error(code, 1).ended == f"error {code}: so"
    assert bool(Talk().error(code).ended) is (code in (9, 10, 25)), "no command of ours"
    assert Talk().error(code).complaint


def test_what_is_taken_back_ends_the_connection() -> None:
    talk = Talk()
    talk.subscribed("trade", 2)
    assert talk.hear({"sid": 2, "seq": 9, "type": "unsubscribed"}).ended
    assert talk.error(11, sid=2).ended
    assert talk.error(11).complaint
    assert not talk.error(11).ended


def test_a_refusal_of_markets_is_of_the_whole_subscription_so_that_it_is_divided() -> None:
    verdict = Talk().error(26, 1)
    assert "error 26" in verdict.refusal
    assert "--status open" in verdict.refusal


def test_markets_come_and_go_while_a_connection_lives() -> None:
    talk = Talk(kinds=("trade", "book_snapshot", "ticker"))
    talk.subscribed("orderbook_delta", 1)
    talk.subscribed("trade", 2)
    talk.change(("KC",), ("KA",))
    updates = [(each["params"].get("action"), each["params"].get("sids"),
                each["params"]["market_tickers"]) for each in talk.sent]  # fmt: skip
    assert updates == [("add_markets", [1], ["KC"]), ("add_markets", [2], ["KC"]),
                       ("delete_markets", [1], ["KA"]), ("delete_markets", [2], ["KA"]),
                       (None, None, ["KC"])], "what was not given is asked for"  # fmt: skip
    ids = [each["id"] for each in talk.sent]
    verdict = talk.hear({"id": ids[0], "sid": 1, "seq": 4, "type": "ok", "msg": {}})
    assert verdict.accepted == {("book_snapshot", "KC")}
    verdict = talk.error(11, ids[1])
    assert set(verdict.refused) == {("trade", "KC")}
    first = talk.hear({"id": ids[2], "sid": 1, "seq": 5, "type": "ok"})
    last = talk.hear({"id": ids[3], "sid": 2, "seq": 6, "type": "ok"})
    assert (not first.released, last.released) == (True, frozenset({"KA"}))


def test_of_several_markets_that_are_not_taken_each_is_asked_for_alone() -> None:
    talk = Talk(kinds=("trade",))
    talk.subscribed("trade", 2)
    talk.change(("KC", "KD"))
    verdict = talk.error(16, talk.sent[0]["id"])
    assert not verdict.refused
    again = [each["params"]["market_tickers"] for each in talk.sent[1:]]
    assert again == [["KC"], ["KD"]]


def test_lifecycles_come_over_a_connection_of_their_own() -> None:
    talk = Talk("*", kinds=("market", "market_event"))
    (command,) = talk.sent
    assert command["params"] == {
        "channels": ["market_lifecycle_v2", "multivariate_market_lifecycle"]}  # fmt: skip
    assert talk.subscribed("market_lifecycle_v2", 1).accepted == {
        ("market", "*"), ("market_event", "*")}  # fmt: skip
    talk.error(8, 1)
    assert not talk.error(8, talk.sent[1]["id"]).refused, "the second channel is no loss"
    told = {"type": "multivariate_market_lifecycle", "sid": 2, "msg": {"market_ticker": "KXMVE-1"}}
    assert talk.hear(told).listed == {"KXMVE-1"}


# ------------------------------------------------------------------------------ ages


def test_a_connection_whose_messages_get_older_and_older_is_ended() -> None:
    session, said, tenth, late_ms = Talk().session, NOTHING, 0, 0
    while not said.ended and tenth < 600:
        late_ms = max(0, tenth - 100) * 50
        message = delta(tenth, ts_ms=T0 + tenth * 100 - late_ms)
        said = session.received(message, NOW + tenth * SECOND // 10)
        tenth += 1
    assert "later than they did" in said.ended
    behind_ns = (tenth - 100) * SECOND // 10 - BOUND_NS * 2
    assert BEHIND_NS <= behind_ns < BEHIND_NS + 2 * SECOND
    assert said.late_ns == late_ms * MILLISECOND, "what was sent since then has not come"


def test_clocks_that_differ_and_a_message_that_is_old_by_itself_end_nothing() -> None:
    session = Talk().session
    for tenth in range(600):
        late_ms = 3_600_000 + (60_000 if tenth % 10 == 5 else 0)
        message = trade(tenth, ts_ms=T0 + tenth * 100 - late_ms)
        assert not session.received(message, NOW + tenth * SECOND // 10).ended
    assert session.received(snapshot(), NOW + 3600 * SECOND) is NOTHING


def test_a_message_that_says_a_time_to_come_makes_the_others_no_older() -> None:
    session = Talk().session
    for tenth in range(600):
        early_ms = 3_600_000 if tenth == 51 else 0
        message = trade(tenth, ts_ms=T0 + tenth * 100 + early_ms)
        assert not session.received(message, NOW + tenth * SECOND // 10).ended


def test_a_few_old_messages_end_nothing_however_far_apart_and_not_each_is_looked_at() -> None:
    ages = Ages()
    for _ in range(2):  # one young message alone may be of a wrong clock
        assert not ages.look(NOW, NOW)
    assert ages.due_ns == NOW + EVERY_NS
    for minute in range(1, FEWEST):
        assert not ages.look(NOW, NOW + minute * 60 * SECOND)
    assert ages.look(NOW, NOW + FEWEST * 60 * SECOND) == FEWEST * 60 * SECOND


# -------------------------------------------------------------------------- recordings


def test_a_recording_tells_of_another_connection_where_numbers_begin_anew() -> None:
    restarts = Restarts()
    frames = [
        delta(500),
        trade(70),
        delta(501),
        trade(71),
        trade(5),
        delta(22),
        delta(22),
        delta(30),
    ]
    assert [restarts(frame) for frame in frames] == [False] * 4 + [True] + [False] * 3
    assert not restarts(b"junk")


# -------------------------------------------------------------------------- signatures


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


@pytest.mark.parametrize("key", [RSA, ED], ids=["rsa", "ed25519"])
def test_what_is_signed_is_time_method_and_path_without_the_query(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    secrets = {"key_id": "id-1", "private_key": pem(key)}
    assert VENUE.sign is not None
    target = "/trade-api/v2/account/limits?x=1"
    signed = VENUE.sign(secrets, "get", target, b"", NOW + 999_999)
    assert signed["KALSHI-ACCESS-KEY"] == "id-1"
    assert signed["KALSHI-ACCESS-TIMESTAMP"] == str(T0)
    signature = base64.b64decode(signed["KALSHI-ACCESS-SIGNATURE"], validate=True)
    verify(key, signature, f"{T0}GET/trade-api/v2/account/limits")
    with pytest.raises(InvalidSignature):
        verify(key, signature, f"{T0}GET{target}")
    asked = ConnectionPurpose(symbols=("KA",), channels=("trade",), credentials=secrets)
    upgrade = KalshiSession(asked).headers(NOW)
    verify(key, base64.b64decode(upgrade["KALSHI-ACCESS-SIGNATURE"]), f"{T0}GET{SOCKET_PATH}")
    assert KalshiSession(ConnectionPurpose(("KA",), ("trade",))).headers(NOW) == {}


def verify(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, signature: bytes, text: str) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        key.public_key().verify(signature, text.encode(), pss, hashes.SHA256())
    else:
        key.public_key().verify(signature, text.encode())


def config(file: Path) -> VenueConfig:
    return VenueConfig(name="kalshi", symbols=("KXA-1",), credentials_file=str(file))


def test_a_key_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem(ED))
    file = tmp_path / "kalshi.toml"
    file.write_text('key_id = "id-1"\nprivate_key_file = "key.pem"\n')
    assert venues.credentials(config(file))["private_key"] == pem(ED)
    assert venues.credentials(config(file))["key_id"] == "id-1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('key_id = "id-1"', "lack private_key"),
        ('key_id = "id-1"\nprivate_key = "swordfish"', "private_key of kalshi is none"),
        ('key_id = "id-1"\nprivate_key_file = "none.pem"', "cannot be read"),
    ],
)
def test_a_key_that_cannot_be_used_is_said_before_anything_begins(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "kalshi.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        venues.check(config(file))
    assert "swordfish" not in f"{caught.value} {caught.value.hint}"


# ------------------------------------------------------------------------------- venue


def test_a_market_that_is_left_out_is_the_venues_first() -> None:
    left_out = VenueConfig(name="kalshi", symbols=("KXA-1",))
    venues.check(left_out)
    assert venues.market_of(left_out) == "prediction"
    assert venues.kinds(left_out) == ("trade",)
    assert venues.kinds(VenueConfig(name="kalshi", symbols=("KXA-1",), channels=("all",))) == (
        "trade", "ticker", "book_snapshot", "book_delta", "bar")  # fmt: skip


def test_kinds_are_polled_that_say_so_and_those_without_a_channel() -> None:
    def asked(channels: tuple[str, ...], polled: tuple[str, ...]) -> tuple[str, ...]:
        said = VenueConfig(name="kalshi", symbols=("KXA-1",), channels=channels, polled=polled)
        venues.check(said)
        kinds = venues.kinds(said)
        return VENUE.polled(ConnectionPurpose(("KXA-1",), kinds, polled=venues.polled(said)))

    assert asked(("trade", "bars"), ()) == ("bar",)
    assert asked(("trade", "book_snapshot"), ("trades", "book")) == ("trade", "book_snapshot")
    with pytest.raises(ConfigError, match="there is no book_delta"):
        asked(("book",), ("book",))
    with pytest.raises(ConfigError, match="no polled channel 'ticker'"):
        asked(("ticker",), ("ticker",))


def test_no_second_sees_more_calls_than_the_lowest_tier_allows() -> None:
    (rate,) = VENUE.limits.rest
    assert rate.of == "call"
    assert rate.burst + rate.per_second <= 20
