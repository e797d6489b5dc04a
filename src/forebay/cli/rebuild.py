"""``forebay rebuild``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.output import (
    DEFAULT_DATA,
    ConfigOption,
    DataOption,
    JsonOption,
    err,
    print_json,
    print_table,
    progress,
)
from forebay.cli.settings import offline_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.app.wiring.stores import FolderStore


def rebuild(
    *,
    data: DataOption = DEFAULT_DATA,
    store: Annotated[
        str | None, typer.Option("--store", help="Rebuild this store; else the first.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the database anew from the journal, and put it in the place of the old one.

    The old one stays in use until the new one is whole. If it has what the journal does not
    hold any more, or cannot be read, it is kept beside the new one, with its Parquet files. A
    folder of an earlier layout is moved to this one so; its database is kept in any case.

    A store on a server is fed once more with all that the journal has: what it lacks is stored,
    and nothing is removed, but what is damaged is put aside. To make one wholly anew, give it
    another database in the configuration.

    Exit code 1: the new one lacks something. Exit code 3: a capture runs.

    Example: forebay rebuild --data DIR
    """
    from forebay.app.wiring import stores
    from forebay.clock import SystemClock

    settings, folder, observer = offline_job("rebuild", config, data)
    place = stores.chosen(stores.stores_of(settings), store or "", "The configuration")
    with progress() as bars:
        task = bars.add_task("Rebuilding", total=None)
        account = _rebuilder(place)(
            folder,
            settings,
            clock=SystemClock(),
            observer=observer,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(account)
        raise typer.Exit(0 if account["complete"] else 1)
    shown = {name: value for name, value in account.items() if name not in _APART}
    print_table("Rebuilt", ("what", "count"), (shown | account["stored"]).items())
    if account["not_in_journal"]:
        absent = account["not_in_journal"]
        rows = [tuple(absence.values()) for absence in absent]
        print_table("Not in the journal any more", list(absent[0]), rows)
    for told in account.get("set_aside", ()):
        err.print(told)
    if account["kept"]:
        err.print(f"The old database is {account['kept']}.")
        err.print("If it had Parquet files, they are in a folder beside it.")
    if not account["complete"]:
        err.print("It has what the new one lacks, or cannot be read.")
        raise typer.Exit(1)


def _rebuilder(place: FolderStore) -> Callable[..., dict[str, Any]]:
    """Return what rebuilds a store: the database in a file is replaced, any other fed again."""
    from forebay.app.offline.feeding_again import feed_again
    from forebay.app.offline.rebuild import rebuild_database
    from forebay.app.wiring import stores

    if place.role == stores.DELIVER and stores.kind_of(place.config).embedded:
        return rebuild_database
    return partial(feed_again, place=place)


_APART = ("stored", "not_in_journal", "complete", "kept", "set_aside")
