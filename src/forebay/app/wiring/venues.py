"""Which venues there are, and how what is configured becomes a source.

A venue from outside the tree is named by ``plugin``. A data folder remembers the plugins of its
venues, so that whoever reads it later finds their parsers without the configuration.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forebay.app.wiring.complaints import Complaints
from forebay.app.wiring.config import STAND_INS
from forebay.app.wiring.stores import load_plugin
from forebay.domain.frames import EVERY_SYMBOL
from forebay.domain.listing import is_pattern
from forebay.errors import ConfigError
from forebay.secret_files import read_secrets
from forebay.sources import coinbase, kalshi, massive
from forebay.sources.history import ById
from forebay.sources.proxies import proxy_for
from forebay.sources.venue import ConnectionPurpose, Venue
from forebay.text import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from forebay.app.wiring.config import VenueConfig
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.ports import Parser
    from forebay.sources.live import LiveSource, Wiring

VENUES: dict[str, Venue] = {
    venue.name: venue for venue in (coinbase.VENUE, massive.VENUE, kalshi.VENUE)
}
"""Every venue by name; :func:`install` adds those from outside."""
_OWN = frozenset(VENUES)
ALL = "all"
_MARKET = "spot"
"""Of a venue that nobody knows any more."""


def parsers() -> Mapping[str, Parser]:
    """Return the parser of every venue by name."""
    return {name: venue.parser for name, venue in VENUES.items()}


def source(config: VenueConfig, wiring: Wiring) -> LiveSource:
    """Return the live source that ``config`` asks for; use it with ``async with``.

    Where symbols come and go, it begins with those that are written out. Raises
    :class:`~forebay.errors.ConfigError` if it cannot be.
    """
    asked = ConnectionPurpose(
        symbols=exact(config),
        channels=kinds(config),
        market=market_of(config),
        depth=config.depth,
        credentials=credentials(config),
        polled=polled(config),
    )
    return _live(config, asked, wiring, connections=config.connections or 0)


def pushed(config: VenueConfig, wiring: Wiring) -> LiveSource | None:
    """Return what hears a venue tell of all its markets as they change, if it does that.

    Where all that is asked for is polled, nothing connects, and looking has to do.
    """
    directory = VENUES[config.name].directory
    if directory is None or not directory.pushed or not _connects(config):
        return None
    asked = ConnectionPurpose(
        symbols=(EVERY_SYMBOL,),
        channels=directory.pushed,
        market=market_of(config),
        credentials=credentials(config),
    )
    return _live(config, asked, wiring)


def _connects(config: VenueConfig) -> bool:
    """Return whether anything that is asked for comes over a connection."""
    asked = ConnectionPurpose((), kinds(config), polled=polled(config))
    return len(VENUES[config.name].polled(asked)) < len(asked.channels)


def _live(
    config: VenueConfig, asked: ConnectionPurpose, wiring: Wiring, *, connections: int = 0
) -> LiveSource:
    from forebay.sources import live  # noqa: PLC0415 - only a capture needs sockets
    from forebay.sources.websocket import Timeouts  # noqa: PLC0415

    venue = VENUES[check_venue(config.name)]
    stale_s = venue.stale_s if config.stale_after_s is None else config.stale_after_s
    return live.LiveSource(
        venue,
        asked,
        wiring,
        addresses=live.Addresses(config.ws_url, config.rest_url),
        timings=live.Timings(
            feed=Timeouts(stale_s=stale_s, backoff_base_s=config.reconnect_base_s)
        ),
        symbols_per_connection=config.symbols_per_connection,
        changing=venue.directory is not None,
        connections=connections,
    )


def exact(config: VenueConfig) -> tuple[str, ...]:
    """Return the symbols that are no patterns; a venue without a directory has none of those."""
    if VENUES[check_venue(config.name)].directory is None:
        return config.symbols
    return tuple(symbol for symbol in config.symbols if not is_pattern(symbol))


def page_rows(name: str) -> int:
    """Return how many ids a page of a venue's history answers, the least of its channels."""
    paged = VENUES[name].history.values()
    return min((history.rows for history in paged if isinstance(history, ById)), default=1)


# ----------------------------------------------------------------------- plugins


def install(folder: DataFolder | None, configured: Iterable[VenueConfig] = ()) -> None:
    """Enter the venues that a folder remembers, if there is one, and those that are configured.

    Raises :class:`~forebay.errors.ConfigError` if one cannot be had.
    """
    wanted = (folder.plugins() if folder else {}) | _plugins(configured)
    for name, plugin in wanted.items():
        VENUES[name] = load(name, plugin)


def remember(folder: DataFolder, configured: Iterable[VenueConfig]) -> None:
    """Have the folder remember the plugins that are configured."""
    known = folder.plugins()
    if (wanted := known | _plugins(configured)) != known:
        folder.remember_plugins(wanted)


def _plugins(configured: Iterable[VenueConfig]) -> dict[str, str]:
    return {config.name: config.plugin for config in configured if config.plugin}


def load(name: str, plugin: str) -> Venue:
    """Return the venue that ``package.module:ATTRIBUTE`` is.

    Raises :class:`~forebay.errors.ConfigError` in one sentence that says what to do.
    """
    of = f"venue {name!r}"
    told = f"The plugin {plugin!r} of the {of}"
    if name in _OWN:
        message = f"{told} has the name of one that is built in."
        raise ConfigError(message, hint="Give it another name, or leave plugin out.")
    found = load_plugin(plugin, of, Venue, "VENUE")
    if found.name != name:
        raise ConfigError(f"{told} calls itself {found.name!r}.", hint="Use that as name.")
    return found


# ------------------------------------------------------------------------ checks


def check_venue(name: str) -> str:
    """Return ``name``; raises :class:`~forebay.errors.ConfigError` if there is no such venue."""
    if name not in VENUES:
        hint = did_you_mean(name, VENUES, f"There is: {', '.join(VENUES)}.")
        raise ConfigError(f"There is no venue {name!r}.", hint=hint)
    return name


def check(config: VenueConfig) -> None:
    """Raise :class:`~forebay.errors.ConfigError`, of all that is said of a venue and cannot be."""
    check_venue(config.name)
    complaints = Complaints()
    for look in (
        check_addresses,
        _check_patterns,
        _check_refresh,
        _check_spelling,
        _check_book,
        kinds,
        polled,
        credentials,
    ):
        with complaints.noted():
            look(config)
    complaints.tell()


def check_addresses(config: VenueConfig) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if an address is none, before it is tried."""
    complaints = Complaints()
    for key, schemes in (("ws_url", ("ws", "wss")), ("rest_url", ("http", "https"))):
        url: str = getattr(config, key)
        if url and not _is_address(url, schemes):
            hint = f"Write {schemes[0]}://HOST:PORT or {schemes[1]}://HOST."
            message = f"The {key} of {config.name}, {url!r}, is no address."
            complaints.errors.append(ConfigError(message, hint=hint))
            continue
        with complaints.noted():
            proxy_for(url or getattr(VENUES[config.name], key))  # an unreadable one is said now
    complaints.tell()


def _check_patterns(config: VenueConfig) -> None:
    """Raise :class:`~forebay.errors.ConfigError` for patterns where symbols do not come and go."""
    venue = VENUES[config.name]
    wrong = [each for each in config.symbols if is_pattern(each)]
    if wrong and venue.directory is None and [*config.symbols] != STAND_INS["symbols"]:
        there = [name for name, each in VENUES.items() if each.directory is not None]
        hint = f"Write the symbols out; see `forebay symbols --venue {config.name}`."
        if there:
            hint += f" Patterns are for {', '.join(there)}."
        message = f"{venue.title} takes no patterns: {', '.join(map(repr, wrong))}."
        raise ConfigError(message, hint=hint)


def _check_refresh(config: VenueConfig) -> None:
    venue = VENUES[config.name]
    if config.refresh_s is not None and venue.directory is None:
        message = f"{venue.title} lists no markets that come and go, so refresh_s has no effect."
        raise ConfigError(message, hint="Leave refresh_s out.")


def _check_spelling(config: VenueConfig) -> None:
    """Raise :class:`~forebay.errors.ConfigError` if a symbol cannot be one of the venue's."""
    venue = VENUES[config.name]
    spelled = [each for each in config.symbols if not is_pattern(each)]
    wrong = [each for each in spelled if not re.fullmatch(venue.spelling, each)]
    if not wrong or [*config.symbols] == STAND_INS["symbols"]:
        return
    meant = list(dict.fromkeys(filter(None, (_meant_symbol(each, venue) for each in wrong))))
    hint = f"See `forebay symbols --venue {config.name}`."
    if meant:
        hint = f"Did you mean {', '.join(map(repr, meant))}?"
    message = f"{venue.title} has no symbol {', '.join(map(repr, wrong))}."
    raise ConfigError(message, hint=hint)


def spelled(name: str, word: str) -> str:
    """Return a symbol as somebody typed it, in capitals only if it cannot be one as it is."""
    venue = VENUES.get(name)
    right = venue is not None and (
        re.fullmatch(venue.spelling, word) or (is_pattern(word) and venue.directory is not None)
    )
    return word if right else word.upper()


def _meant_symbol(word: str, venue: Venue) -> str:
    """Return the spelling that ``word`` is probably meant to be; nothing if there is none."""
    plain = word.strip()
    for other in (plain, re.sub(r"[/_\s:-]+", "-", plain.upper())):
        if re.fullmatch(venue.spelling, other):
            return other
    return ""


def near(symbol: str, known: Iterable[str]) -> str:
    """Return which of the symbols of a venue is probably meant; nothing if none is."""
    alike = {re.sub(r"\W", "", each).lower(): each for each in known}
    word = re.sub(r"\W", "", symbol).lower()
    found = word if word in alike else nearest(word, alike, 0.7)
    return alike.get(found, "")


def _check_book(config: VenueConfig) -> None:
    venue = VENUES[config.name]
    if market_of(config) not in venue.markets:
        hint = f"There is: {', '.join(venue.markets)}."
        raise ConfigError(f"{venue.title} has no market {config.market!r}.", hint=hint)
    if config.depth is not None and config.depth not in venue.depths:
        depths = ", ".join(map(str, venue.depths))
        hint = f"There is: {depths}." if depths else "Leave depth out: there is no choice."
        raise ConfigError(f"{venue.title} has no books of depth {config.depth}.", hint=hint)


def market_of(config: VenueConfig) -> str:
    """Return the market that is meant: the venue's first, if none is said."""
    return config.market or first_market(config.name)


def first_market(venue: str) -> str:
    """Return the market that is meant of a venue if none is said."""
    return VENUES[venue].markets[0] if venue in VENUES else _MARKET


def polled(config: VenueConfig) -> tuple[str, ...]:
    """Return the kinds that the words of ``config.polled`` mean.

    Raises :class:`~forebay.errors.ConfigError` if one is not asked for, or not had by REST.
    """
    venue, captured = VENUES[config.name], kinds(config)
    there = tuple(kind for kind in captured if kind in venue.polls)
    meant = {kind for word in config.polled for kind in _meant(word, venue, there, "polled")}
    for kind in meant:
        if beside := {*venue.polls[kind].instead_of} & {*captured}:
            named = ", ".join(sorted(beside))
            message = f"Where {kind} is polled there is no {named}, and channels names it."
            raise ConfigError(message, hint=f'Write "{kind}" among the channels.')
    return tuple(kind for kind in there if kind in meant)


def kinds(config: VenueConfig) -> tuple[str, ...]:
    """Return the kinds of event that the words of ``config.channels`` mean, in the venue's order.

    A word is a kind, its plural, or what several kinds begin with; none means the venue's default.
    Raises :class:`~forebay.errors.ConfigError` if it means nothing that the venue has.
    """
    venue = VENUES[config.name]
    there = venue.market_channels.get(market_of(config), tuple(venue.channels))
    if venue.directory is not None:  # what it tells comes with it
        there = tuple(kind for kind in there if kind not in venue.directory.kinds)
    if not config.channels:
        return tuple(kind for kind in venue.default_channels if kind in there)
    meant = {kind for word in config.channels for kind in _meant(word, venue, there)}
    return tuple(kind for kind in venue.channels if kind in meant)


def _meant(word: str, venue: Venue, there: Collection[str], how: str = "") -> list[str]:
    singular = word.lower().removesuffix("s")
    found = [
        kind
        for kind in there
        if word.lower() == ALL or singular == kind or kind.startswith(f"{singular}_")
    ]
    if not found:
        words = dict.fromkeys(kind.partition("_")[0] for kind in there)
        hint = did_you_mean(word.lower(), words, f"There is: {', '.join(words)}, {ALL}.")
        raise ConfigError(f"{venue.title} has no {how and f'{how} '}channel {word!r}.", hint=hint)
    return found


def credentials(config: VenueConfig) -> Mapping[str, str]:
    """Return a venue's secrets by name. Raises :class:`~forebay.errors.ConfigError`."""
    secrets = read_secrets(config.credentials_file, config.name)
    VENUES[config.name].check_credentials(secrets)
    return secrets


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises too, if it is no number or none that a port can have
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname)
