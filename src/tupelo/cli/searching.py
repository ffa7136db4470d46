"""Indexing and searching: `tupelo index | search`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tupelo.cli.app import AllowBad, Column, Debug, RunFolder, app, told
from tupelo.cli.options import as_columns
from tupelo.errors import InputError

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen
    from tupelo.data import BadItem
    from tupelo.recipes.indexing import Queries
    from tupelo.search import Found, Index

SHOWN_BAD = 5  # pictures left out that are named on the screen
SHOWN_QUERIES = 20  # in the table
IndexFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="of the index [RUN/index]", show_default=False),
]


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo index runs/photos photos/\n\n"
    "tupelo index runs/photos more/ --add\n\n"
    "tupelo index runs/photos\n\n"
    "tupelo index runs/photos --delete 'more/*'\n\n"
    "tupelo index runs/photos photos/ --rebuild --no-thumbnails\n\n"
    "Until a command has finished, and when it is killed, what was there before stays in use. "
    "Without SOURCE: what the index holds. With --rebuild alone it is written anew, compact, from "
    "what it holds; --approximate (256 items or more) prints its measured recall."
)
def index(
    run: RunFolder,
    source: Annotated[
        str | None,
        typer.Argument(
            help="pictures to index: a folder, with or without a sub-folder per class, a CSV or "
            "Parquet manifest, a zip, or a known data set",
            show_default=False,
        ),
    ] = None,
    out: IndexFolder = None,
    add: Annotated[
        bool, typer.Option("--add", help="add SOURCE; items with the same path are replaced")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="replace the index, or write it anew without SOURCE")
    ] = False,
    delete: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="delete items by path: 'photos/cat/*'; repeatable"),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="also build an IVF-PQ index, and measure it")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="with --rebuild alone: drop the IVF-PQ index")
    ] = False,
    thumbnails: Annotated[
        bool, typer.Option(help="keep a small JPEG of each picture, for contact sheets")
    ] = True,
    column: Column = None,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:
    """Embed pictures into an index that tupelo search asks; add, delete, rebuild."""
    again = "the index is as it was; repeat the command"
    with told(debug, again=again) as screen:
        folder = out or run / "index"
        _check_index(folder, source, add, rebuild, delete, approximate, exact)
        from rich.markup import escape

        from tupelo import search
        from tupelo.recipes import indexing, using
        from tupelo.search import store

        if source is not None:
            if not add:
                store.check_place(folder, overwrite=rebuild)
            opened = using.open_run(run)
            found = search.open(folder, model=opened.trained) if add else None
            if found is not None:
                found.check_model()
            items, bad = indexing.items_from(
                opened,
                source,
                thumbnails=thumbnails,
                columns=as_columns(column or []),
                allow_bad=allow_bad,
                reading=screen.reading,
                embedding=screen.embedding,
            )
            _left_out(screen, bad)
            if found is None:
                model = opened.trained
                with screen.console.status("Writing"):
                    found = search.build(
                        folder, items, model=model, approximate=approximate, overwrite=rebuild
                    )
            else:
                new = found.add(items)
                screen.line(f"added {new:,}, replaced {len(items.paths) - new:,}")
        else:
            found = search.open(folder)
            if delete:
                gone = found.delete(indexing.matching(found, delete))
                screen.line(f"deleted {gone:,}")
            elif rebuild:
                with screen.console.status("Writing"):
                    found.rebuild(approximate=True if approximate else False if exact else None)
        _info(screen, found)
        elsewhere = f" --index {escape(str(out))}" if out else ""
        screen.line(f"next  tupelo search {escape(str(run))} QUERY{elsewhere}")


def _check_index(
    folder: Path,
    source: str | None,
    add: bool,
    rebuild: bool,
    delete: list[str] | None,
    approximate: bool,
    exact: bool,
) -> None:
    """Refuse options that do not go together before the work is done."""
    if add + rebuild + bool(delete) > 1:
        raise InputError("give one of --add, --rebuild and --delete")
    if add and source is None:
        raise InputError("--add needs SOURCE, the pictures to add")
    if delete and source is not None:
        raise InputError("--delete goes without SOURCE: it takes items out by their path")
    if approximate and (add or delete or (source is None and not rebuild)):
        raise InputError("--approximate goes with a new index or with --rebuild")
    if exact and (approximate or not rebuild or source is not None):
        raise InputError("--exact goes with --rebuild alone: it drops the approximate index")
    if source is not None and not add and not rebuild and (folder / "index.json").exists():
        raise InputError(
            f"{folder} holds an index: --add adds these pictures to it, --rebuild replaces it; "
            "--out FOLDER makes another"
        )


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo search runs/photos query.jpg\n\n"
    "tupelo search runs/photos more/ -k 5 --sheet more.png\n\n"
    "tupelo search runs/photos query.jpg --where \"path LIKE 'photos/%'\" --json\n\n"
    "tupelo embed runs/photos more/ --out more.npz\n\n"
    "tupelo search runs/photos --vectors more.npz\n\n"
    "A picture that is itself in the index finds itself first; --item leaves it out."
)
def search(
    run: RunFolder,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            help="pictures, or folders of them; where these have class folders, each neighbour is "
            "marked right or wrong",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="neighbours of each query")] = 10,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="what is like this item of the index; repeatable"),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="rows as queries: .npy, or .npz of tupelo embed"),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="only such items: \"label = 'cat'\"; columns path, label"),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="compare every item, or ask the IVF-PQ index [as the index was built]",
            show_default=False,
        ),
    ] = None,
    index: IndexFolder = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="of the contact sheet, a picture [RUN/search.png]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON and nothing else; a sheet only with --sheet")
    ] = False,
    allow_bad: AllowBad = 0.01,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Find the most similar items of an index: a table here, and a contact sheet."""
    with told(debug, aside=as_json) as screen:
        if bool(query) + bool(item) + (vectors is not None) != 1:
            raise InputError("give one kind of query: pictures, --item PATH, or --vectors FILE")
        folder = index or run / "index"
        from tupelo import search as searching
        from tupelo.recipes import indexing, using

        found_in = searching.open(folder)
        if query:
            opened = using.open_run(run)
            found_in = searching.open(folder, model=opened.trained)
            found_in.check_model()
            asked = indexing.pictures(
                opened,
                query,
                allow_bad=allow_bad,
                reading=screen.reading,
                embedding=screen.embedding,
            )
        elif vectors is not None:
            asked = indexing.vectors(vectors)
        else:
            asked = indexing.stored(found_in, item or [])
        found = indexing.search(found_in, asked, k, where=where, exact=exact)
        if as_json:
            typer.echo(_as_json(found_in, asked, found))
        else:
            _left_out(screen, asked.bad)
            _table(screen, found_in, asked, found)
        if sheet is None and as_json:
            return
        target = sheet or run / "search.png"
        try:
            _write_sheet(target, indexing.sheet(found_in, asked, found))
        except InputError as error:
            if sheet is not None:
                raise
            screen.note(f"no contact sheet: {error}")  # nobody asked for it
            return
        if not as_json:
            from rich.markup import escape

            few = len(found) > indexing.SHEET_ROWS
            first = f" (the first {indexing.SHEET_ROWS} queries)" if few else ""
            screen.line(f"contact sheet [bold]{escape(str(target))}[/bold]{first}")


def _left_out(screen: "Screen", bad: tuple["BadItem", ...]) -> None:
    from rich.markup import escape

    from tupelo.data.listing import count_kinds

    if not bad:
        return
    screen.line(f"[yellow]left out {len(bad):,}[/yellow] ({escape(count_kinds(bad))})")
    for each in bad[:SHOWN_BAD]:
        screen.line(f"  {escape(each.path)}: {escape(each.reason)}")
    if len(bad) > SHOWN_BAD:
        screen.line(f"  and {len(bad) - SHOWN_BAD:,} more")


def _info(screen: "Screen", index: "Index") -> None:
    from rich.markup import escape

    info = index.info()
    items = "item" if info.items == 1 else "items"
    labels = "label" if info.labels == 1 else "labels"
    screen.line(
        f"[bold]{escape(str(info.folder))}[/bold]: {info.items:,} {items}, {info.labels:,} "
        f"{labels}, {info.width} numbers an item, {_size(info.bytes)}, version {info.version}"
    )
    if info.approximate is None:
        screen.line("search is exact")
        return
    told = info.approximate
    screen.line(
        f"search is approximate (IVF-PQ): recall@{told['at']} {told['recall']:.4f}, measured on "
        f"{told['queries']:,} of its items; {told['partitions']:,} partitions, {told['probes']:,} "
        f"looked into, {told['sub_vectors']} bytes an item, {told['refine']} x k compared in full"
    )
    if info.unindexed:
        screen.line(
            f"{info.unindexed:,} items came later and are compared one by one; --rebuild takes "
            "them in"
        )


def _table(screen: "Screen", index: "Index", asked: "Queries", found: list["Found"]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from tupelo.search.sheet import right

    utf = screen.console.encoding.lower().startswith("utf")
    signs = {True: "[green]✓[/]" if utf else "+", False: "[red]✗[/]" if utf else "-", None: ""}
    for number, (name, label, one) in enumerate(zip(asked.names, asked.labels, found, strict=True)):
        if number == SHOWN_QUERIES:
            more = len(found) - SHOWN_QUERIES
            screen.line(f"and {more:,} more queries; --json prints all")
            break
        known = f"  [dim]{escape(label)}[/dim]" if label else ""
        screen.line(f"[bold]{escape(name)}[/bold]{known}")
        if not len(one):
            screen.line("  nothing found\n")
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", justify="right")
        table.add_column("similarity", justify="right")
        table.add_column("")
        table.add_column("label", overflow="fold")
        table.add_column("path", overflow="fold")
        for rank, path in enumerate(one.paths):
            theirs = one.labels[rank]
            table.add_row(
                str(rank + 1),
                f"{one.similarity[rank]:.4f}",
                signs[right(label, theirs)],
                escape(theirs),
                escape(path),
            )
        screen.console.print(table)
    how = "exact: every item was compared"
    if found and not found[0].exact:
        told = index.info().approximate or {}
        how = f"approximate: recall@{told.get('at')} was {told.get('recall', 0):.4f} when built"
    screen.line(f"{len(index):,} items, {how}")


def _as_json(index: "Index", asked: "Queries", found: list["Found"]) -> str:
    results = [
        {"query": name, "label": label, **asdict(one)}
        for name, label, one in zip(asked.names, asked.labels, found, strict=True)
    ]
    bad = [{"path": each.path, "reason": each.reason} for each in asked.bad]
    return json.dumps(
        {"index": str(index.folder), "items": len(index), "results": results, "left_out": bad},
        indent=1,
    )


def _write_sheet(path: Path, sheet: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (ValueError, OSError) as error:
        raise InputError(f"--sheet {path} cannot be written: {error}; try search.png") from error


def _size(n: int) -> str:
    return f"{n / 1e6:,.1f} MB" if n >= 1e5 else f"{n / 1e3:,.1f} kB"
