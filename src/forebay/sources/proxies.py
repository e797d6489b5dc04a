"""Which HTTP proxy leads to an address: ``HTTPS_PROXY`` or ``HTTP_PROXY``, else ``ALL_PROXY``.

Names in small letters come first. Nothing on this machine goes through a proxy, nor what
``NO_PROXY`` lists: hosts with all below them, addresses, networks, each with a port if it means
that alone, or ``*``.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_PROXY_PORT = 3128


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; how it is shown tells no password."""

    host: str
    port: int
    variable: str
    """What names it."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it wants to be told: ``Proxy-Authorization`` or nothing."""

    def __str__(self) -> str:
        return f"http://{authority(self.host, self.port)}"

    def hint(self, status: int) -> str:
        """Return what to do when it answers with ``status`` instead of leading somewhere."""
        return {
            403: "Have it let this address through, or name the host in NO_PROXY.",
            407: f"Put name and password into {self.variable}: http://NAME:PASSWORD@HOST:PORT.",
        }.get(status, f"Ask who runs it; {self.variable} names it, NO_PROXY what needs none.")


def authority(host: str, port: int) -> str:
    """Return a host and its port as an address has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy for ``url``; None if it is reached directly.

    Raises :class:`~forebay.errors.ConfigError` if what names the proxy cannot be read.
    """
    environ = os.environ if environment is None else environment
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    for name in ("https_proxy" if secure else "http_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if text := environ.get(variable, "").strip():
                passed = environ.get("no_proxy") or environ.get("NO_PROXY", "")
                return None if _direct(host, port, passed) else _read(variable, text)
    return None


def _read(variable: str, text: str) -> Proxy:
    hint = "Write http://HOST:PORT; NO_PROXY lists what needs none."
    refusal = ConfigError(f"{variable} does not name an HTTP proxy.", hint=hint)
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refusal from None
    if not host or parts.scheme != "http":
        raise refusal
    headers = {}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
    return Proxy(host, port or _PROXY_PORT, variable, headers)


def _direct(host: str, port: int, passed: str) -> bool:
    """Whether a host needs no proxy: it is this machine, or among those that are ``passed``."""
    address = _address(host)
    if address is not None and (address.is_loopback or address.is_unspecified):
        return True
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return any(_means(rule, name, address, port) for rule in re.split(r"[\s,]+", passed) if rule)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _means(rule: str, name: str, address: _Address | None, port: int) -> bool:
    if rule == "*":
        return True
    if found := re.fullmatch(r"(\[.+\]|[^:]+):(\d+)", rule):
        rule = found[1]
        if int(found[2]) != port:
            return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(rule.strip("[]"), strict=False)
        except ValueError:
            return False
    wanted = rule.lower().removeprefix("*").strip(".")
    return bool(wanted) and (name == wanted or name.endswith(f".{wanted}"))
