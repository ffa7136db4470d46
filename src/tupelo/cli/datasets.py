"""Known data sets: `tupelo datasets list | info | check | prepare`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tupelo.cli.app import Debug, app, told
from tupelo.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from tupelo.cli.screen import Screen
    from tupelo.data.official.catalogue import DataSet
    from tupelo.data.official.checking import Report

datasets = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Known data sets: what they are, where they are, whether they are whole.",
)
app.add_typer(datasets, name="datasets")

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="as tupelo datasets list shows it", show_default=False),
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="folder that holds the data sets; default TUPELO_DATA, else here"
    ),
]
SHOWN = 20
NOT_IN_ORDER = 1


@datasets.command(
    "list",
    epilog="[bold]Examples[/bold]\n\ntupelo datasets list\n\ntupelo datasets list --root data",
)
def list_(root: Root = None, debug: Debug = False) -> None:
    """Show the data sets that are known, and which of them are here."""
    with told(debug) as screen:
        from rich.markup import escape

        from tupelo.data.official.catalogue import CATALOGUE
        from tupelo.data.official.places import locate

        base = _folder(root)
        table = _table("name", "pictures", "classes", "split", "licence", "here")
        for known in CATALOGUE.values():
            try:
                place = locate(known.name, base)
                here = "-" if place is None else "official" if place.layout else "compact"
            except DataError:
                here = "unreadable"
            pictures, classes, split = _totals(known)
            name = f"[bold]{known.name}[/bold]\n[dim]{escape(known.title)}[/dim]"
            table.add_row(name, pictures, classes, split, known.licence, here)
        screen.console.print(table)
        screen.line(f"looked for in {escape(str(base))}; tupelo datasets info NAME tells more")


@datasets.command(epilog="[bold]Example[/bold]\n\ntupelo datasets info cub200")
def info(name: Name, debug: Debug = False) -> None:
    """Tell everything about one data set: counts, protocol, terms, where to get it, layout."""
    with told(debug) as screen:
        from rich.markup import escape

        from tupelo.data.official.catalogue import entry

        known = entry(name)
        screen.line(f"[bold]{known.name}[/bold]  {escape(known.title)}: {escape(known.what)}\n")
        forms = {"official": known.counts}
        if known.compact is not None:
            forms[f"compact: {known.compact.what}"] = known.compact.counts
        for form, counts in forms.items():
            if not counts:
                continue
            table = _table("part", "pictures", "classes", title=form)
            for part, count in counts.items():
                also = f" (or {count.also[0]:,} of {count.also[1]:,})" if count.also else ""
                n = "any" if count.pictures is None else f"{count.pictures:,}"
                table.add_row(part, n, f"{count.classes:,}{also}")
            screen.console.print(table)
        rows = {
            "protocol": known.protocol,
            "measured": known.measured,
            "terms": known.terms,
            "from": known.where,
            "download": _offered(known),
            "cite": known.citation,
        }
        for word, text in rows.items():
            screen.console.print(_hanging(word, text))
        screen.line("\nlayout, in the folder given as --root or TUPELO_DATA\n")
        screen.console.print(known.tree, markup=False)
        screen.line(f'\nin Python  tp.data.known("{name}")\ntraining   tupelo train known:{name}')


@datasets.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo datasets check omniglot --root data\n\n"
    "tupelo datasets check omniglot --root data --deep --out omniglot.csv"
)
def check(
    name: Name,
    root: Root = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="also decode each picture and compare archives")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file for all that is found")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare files and counts with the published ones; exit code 1 when something is wrong."""
    with told(debug) as screen:
        from tupelo.data.official.checking import check_data_set

        report = check_data_set(name, _folder(root), deep=deep, progress=screen.working)
        if out is not None:
            report.write(out)
        _show(screen, report, out)
        if not report.ok:
            raise typer.Exit(NOT_IN_ORDER)


@datasets.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo datasets prepare omniglot --root data\n\n"
    "tupelo datasets prepare mnist --root data --download\n\n"
    "Nothing is fetched without --download. Repeat the command to go on after any end."
)
def prepare(
    name: Name,
    root: Root = None,
    download: Annotated[
        bool, typer.Option("--download", help="fetch the published files, where they are offered")
    ] = False,
    debug: Debug = False,
) -> None:
    """Unpack the published archives found in DIR and check; exit code 1 when something is wrong."""
    with told(debug, again="repeat the command to go on") as screen:
        from rich.markup import escape

        from tupelo.data.official import preparing
        from tupelo.data.official.catalogue import entry

        base = _folder(root)
        prepared = preparing.prepare(name, base, download=download, progress=screen.working)
        for line in prepared.done:
            screen.line(escape(line))
        if prepared.lacking:
            known = entry(name)
            screen.line(f"\n{escape(known.title)} is got from {escape(known.where)}")
            screen.line(f"terms      {escape(known.terms)}")
            for archive in prepared.lacking:
                screen.line(f"put        {escape(archive.name)} into {escape(str(base))}")
            offered = f"tupelo datasets prepare {name} --root {base}"
            more = " --download" if known.downloadable else ""
            screen.line(f"then       {escape(offered)}{more}\n")
        _show(screen, prepared.report, None)
        if not prepared.report.ok:
            raise typer.Exit(NOT_IN_ORDER)


def _folder(root: Path | None) -> Path:
    return Path(os.environ.get("TUPELO_DATA", ".")) if root is None else root


def _totals(known: "DataSet") -> tuple[str, str, str]:
    counts = known.counts or (known.compact.counts if known.compact else {})
    exact = [count.pictures for count in counts.values() if count.pictures is not None]
    n = f"{sum(exact):,}" + ("" if len(exact) == len(counts) else " +")
    split = "train / query / gallery"
    if counts.keys() <= {"train", "validation", "test", "all"}:
        split = " / ".join(counts) if len(counts) > 1 else "none"
    if known.name in ("mnist", "fashion_mnist"):
        return n, f"{counts['test'].classes:,}", f"{split}, same classes"
    # Queries and gallery hold the same classes, and the large list those of the smaller ones.
    parts = ("train", "validation", "test", "query", "all", "large")
    return n, f"{sum(counts[part].classes for part in parts if part in counts):,}", split


def _offered(known: "DataSet") -> str:
    if known.downloadable:
        return f"tupelo datasets prepare {known.name} --download"
    names = ", ".join(archive.name for archive in known.archives)
    return f"not offered as plain files{f'; prepare unpacks {names}' if names else ''}"


def _show(screen: "Screen", report: "Report", out: Path | None) -> None:
    from rich.markup import escape

    screen.line(f"[bold]{report.name}[/bold], {report.form}, in {escape(str(report.folder))}")
    if report.parts:
        table = _table("part", "listed", "here", "classes", "expected")
        for part in report.parts:
            wanted = part.expected
            text = "-"
            if wanted is not None:
                n = "any" if wanted.pictures is None else f"{wanted.pictures:,}"
                text = f"{n} of {wanted.classes:,}"
            table.add_row(
                part.name, f"{part.listed:,}", f"{part.here:,}", f"{part.classes:,}", text
            )
        screen.console.print(table)
    wrong = [one for one in report.findings if one.wrong]
    notes = [one for one in report.findings if not one.wrong]
    for style, kind, found in (("red", "wrong", wrong), ("yellow", "note", notes)):
        advice = ""
        for one in found[:SHOWN]:
            path = f"{one.path}: " if one.path and not one.message.startswith(one.path) else ""
            screen.line(f"[{style}]{kind}[/]  {escape(path + one.message)}")
            if one.advice and one.advice != advice:
                advice = one.advice
                screen.line(f"       [dim]{escape(advice)}[/dim]")
        if len(found) > SHOWN:
            where = f"all in {out}" if out is not None else "--out FILE lists all"
            screen.line(f"{len(found) - SHOWN:,} more; {escape(where)}")
    if report.ok:
        screen.line("[green]in order[/green]")
    else:
        screen.line(f"[red]not in order[/red]: {len(wrong):,} findings")


def _table(*columns: str, title: str | None = None) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        right = column in ("pictures", "classes", "listed", "expected")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _hanging(word: str, text: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(width=9)
    table.add_column(overflow="fold")
    table.add_row(f"[bold]{word}[/bold]", escape(text))
    return table
