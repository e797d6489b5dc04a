"""The page of ``forebay.toml``: keys, types, defaults and meanings, all from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import NODEFAULT, inspect

from forebay.app.processes.process_breakers import LIVE
from forebay.app.wiring.config import LISTS
from forebay.app.wiring.config_layers import ALIASES, SERVERS
from forebay.app.wiring.config_template import Key, Table, shown, tables
from forebay.times import SPAN

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# Configuration

Every key of `forebay.toml`. `forebay init` writes a file with all of them,
`forebay check` says what is wrong with yours, and `forebay check --explain`
where each value came from. The page is made from the code: `make docs`.

What is said in two places is taken from the first of these: the command line,
the environment, the file, the default. The file is the one given with `-c` or
`FOREBAY_CONFIG`, else `forebay.toml` of the data folder, else of the current
folder. An unknown key is an error, with a suggestion.

Each key has a variable: `FOREBAY_` and its path in capitals, tables and key
joined by two underscores, such as `FOREBAY_JOURNAL__RETAIN`. Lists and tables
are JSON: `FOREBAY_VENUES='[{"name": "coinbase", "symbols": ["BTC-USD"]}]'`.
"""
LIVE_HEAD = """\
## While it runs

These may change without a restart: edit the file, then send the process
`SIGHUP`. Of all others the log says that they need a restart.
"""
ALIAS_HEAD = """
## Other names

Variables that other deployments use, and the keys that they set:

| variable | key |
|---|---|
"""


def page() -> str:
    """The page of all keys."""
    parts = [HEAD, *map(_table, tables()), LIVE_HEAD]
    parts += [f"* `{key}{'*' if key.endswith('.') else ''}`" for key in LIVE]
    keys = {name: "` and `".join(paths) for name, paths in ALIASES.items()}
    keys |= {name: f"transports.servers of {kind}" for name, kind in SERVERS.items()}
    aliases = [f"| `{name}` | `{key}` |\n" for name, key in keys.items()]
    return "\n".join(parts) + "\n" + ALIAS_HEAD + "".join(aliases)


def _table(table: Table) -> str:
    many = table.name in LISTS
    title = f"[[{table.name}]]" if many else f"[{table.name}]" if table.name else "At the top"
    said = f" As a variable: `FOREBAY_{table.name.upper()}`, the whole list." if many else ""
    head = ["key", "type", "default", *(() if many else ("variable",)), "meaning"]
    rows = [head, ["---"] * len(head), *(_row(key, many) for key in table.keys)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows).replace(" --- ", "---")
    return f"## {title}\n\n{table.meaning}{said}\n\n{lines}\n"


def _row(key: Key, many: bool) -> list[str]:
    variable = f"`FOREBAY_{key.path.upper().replace('.', '__')}`"
    cells = [f"`{key.name}`", _type(key.type), _default(key)]
    return [*cells, *(() if many else (variable,)), key.meaning]


def _default(key: Key) -> str:
    if key.default is NODEFAULT:
        return "" if isinstance(key.type, inspect.DictType) else "must be given"
    return "" if key.default in (None, "", ()) else f"`{shown(key.default)}`"


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=(first, inspect.NoneType())):
            return _type(first)
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.VarTupleType(item_type=item):
            return f"list of {_type(item)}s"
        case inspect.DictType() | inspect.BoolType():
            return "true or false" if isinstance(kind, inspect.BoolType) else "table of texts"
        case inspect.StrType(pattern=pattern):
            return "span, such as `12h`" if pattern == SPAN else "text"
        case inspect.IntType() | inspect.FloatType():
            name = "integer" if isinstance(kind, inspect.IntType) else "number"
            return " ".join([name, ", ".join(_bounds(kind))]).strip()
    raise TypeError(kind)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> Iterator[str]:
    for sign, bound in ((">", kind.gt), ("≥", kind.ge), ("≤", kind.le)):
        if bound is not None and bound < 1e9:
            yield f"{sign} {bound:g}"
