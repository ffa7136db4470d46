"""What `tupelo faces evaluate` writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tupelo.errors import MissingExtra

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen
    from tupelo.recipes.faces_evaluating import PairsJudged
    from tupelo.recipes.faces_templates import TemplatesJudged


def pairs_told(
    judged: "PairsJudged", screen: "Screen", out: Path, page: Path, as_json: bool
) -> None:
    """Write accuracy and rates, and draw the page.

    Args:
        judged: what was measured.
        screen: to write on.
        out: for the numbers.
        page: for the figures.
        as_json: print the numbers too.
    """
    from tupelo.recipes.faces_evaluating import FARS

    roc, folds = judged.roc, judged.accuracy
    what = "videos" if judged.protocol == "YTF" else "pictures"
    in_folds = f" in {judged.listed.n_folds} folds" * (judged.listed.n_folds > 1)
    screen.line(
        f"{judged.protocol}       {len(judged.scores):,} pairs{in_folds}, "
        f"{len(judged.listed.names):,} {what}"
    )
    if folds is not None:
        low, high = min(folds.thresholds), max(folds.thresholds)
        screen.line(
            f"accuracy  [bold]{folds}[/bold]  standard error; thresholds {low:.4f} to {high:.4f}"
        )
    else:
        screen.line(
            f"accuracy  [bold]{100 * (judged.at or 0):.2f} %[/bold]  at threshold "
            f"{judged.threshold:.4f}"
        )
    screen.line(f"AUC       {roc.auc:.4f}   EER {100 * roc.eer:.2f} %")
    shares = [(far, roc.tar_at(far)) for far in FARS]
    screen.line(
        "TAR       "
        + ", ".join(
            f"not measurable at FAR {far:g}" if tar is None else f"{100 * tar:.2f} % at FAR {far:g}"
            for far, tar in shares
        )
    )
    from tupelo.report import faces as pages

    _written(judged, lambda: pages.of_pairs(judged, page), screen, out, as_json)


def templates_told(
    judged: "TemplatesJudged", screen: "Screen", out: Path, page: Path, as_json: bool
) -> None:
    """As `pairs_told`, of templates."""
    from tupelo.recipes.faces_evaluating import FARS
    from tupelo.recipes.faces_templates import FPIRS, RANKS

    screen.line("mean ± standard deviation over splits")
    if judged.rocs:
        pairs = sum(len(each.genuine) + len(each.impostor) for each in judged.rocs.values())
        screen.line(f"1:1       {len(judged.rocs)} splits, {pairs:,} pairs of templates")
        for far in FARS:
            screen.line(f"          TAR at FAR {far:<6g} [bold]{judged.tar(far)}[/bold]")
    if judged.searches:
        probes = sum(len(each.ranks) + len(each.highest) for each in judged.searches.values())
        screen.line(f"1:N       {len(judged.searches)} splits, {probes:,} probes")
        for rank in RANKS:
            screen.line(f"          rank {rank:<12} [bold]{judged.cmc(rank)}[/bold]")
        if judged.open_set:
            for fpir in FPIRS:
                screen.line(
                    f"          TPIR at FPIR {fpir:<4g} [bold]{judged.tpir(fpir)}[/bold]  "
                    f"(rank {judged.max_rank} at most)"
                )
    lost = sum(judged.failures.values())
    screen.line(f"failures to enrol: {lost:,} templates, which count as the lowest score")
    from tupelo.report import faces as pages

    _written(judged, lambda: pages.of_templates(judged, page), screen, out, as_json)


def _written(
    judged: "PairsJudged | TemplatesJudged",
    draw: Callable[[], Path],
    screen: "Screen",
    out: Path,
    as_json: bool,
) -> None:
    from tupelo.recipes.places import write_text

    numbers = judged.as_json()
    for note in judged.notes:
        screen.note(note)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(numbers, indent=2) + "\n")
    screen.path("written", out)
    try:
        screen.path("page", draw())
    except MissingExtra as error:
        screen.note(f"no page: {error}")
    if as_json:
        typer.echo(json.dumps(numbers, indent=1))
