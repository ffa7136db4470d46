"""The page: everything of a run put together into one file."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.data import ImageSet
from tupelo.errors import InputError
from tupelo.inference import Embeddings
from tupelo.report import charts, confusions, embedding_map, figures, parts
from tupelo.report import gallery as galleries
from tupelo.report import searched as searching
from tupelo.report.learners import learners_section
from tupelo.report.points import LOOKS, scatter
from tupelo.report.reading import RunFiles, read
from tupelo.report.rendering import check_extra, replace, scripts, template
from tupelo.report.searched import Searched
from tupelo.report.summary import Summary, summarise
from tupelo.report.thumbnails import thumbnails

NAME = "report.html"
BYTES_AT_MOST = 9_500_000
SHARES = (1.0, 0.4, 0.1, 0.0)  # of the budgets of pictures, tried until the page is small enough
MAP_BYTES, GALLERY_BYTES, SECTION_BYTES = 3_500_000, 1_500_000, 2_000_000
GALLERY_SIDE, MAP_SIDE = 112, 72  # pixels
RINGED_AT_MOST = 0.3  # share of points; more rings hide the colours
LEGEND = 20  # classes; more are found by a list
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Map:
    """The map of the embeddings, with what is said about it."""

    chart: figures.Drawn
    method: str
    shown: int
    of: int
    classes: list[str]
    cycled: bool
    pictured: bool
    ringed: bool


@dataclass(frozen=True)
class Found:
    """What the pictures show: scores by class, neighbours, confusions, the map."""

    searched: Searched
    typical: list[galleries.Query]
    failures: list[galleries.Query]
    confused: list[confusions.Confusion]
    classes: list[confusions.ClassScore]
    projection: embedding_map.Projection | None
    sampled: np.ndarray  # places among the queries


def write(
    run_folder: str | Path,
    pictures: ImageSet | None = None,
    embedded: Embeddings | None = None,
    gallery: ImageSet | None = None,
    embedded_gallery: Embeddings | None = None,
    *,
    part: str = "",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML file that shows a run; it opens without network and has no other files.

    What the run lacks is left out and named: a run made by `tupelo.fit` without validation still
    gets its curves, and a run whose pictures are gone its scores.

    Args:
        run_folder: of the run.
        pictures: shown with their neighbours, confusions and map; normally the test part.
        embedded: their embeddings by the trained model, in the same order.
        gallery: what `pictures` search; None: each other.
        embedded_gallery: its embeddings.
        part: what `pictures` are: "test", "validation", "train". Default: what the run measured.
        out: the file; default `report.html` in the run. Replaced in one step.
        progress: called with (stages done, stages in all).

    Returns:
        The file.

    Raises:
        InputError: `run_folder` holds no run; pictures without as many embeddings.
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    folder = Path(run_folder)
    if (pictures is None) != (embedded is None):
        raise InputError("pictures and embedded must be given together")
    tell = progress or (lambda done, total: None)
    tell(0, 4)
    run = read(folder)
    seed = int(run.recipe.get("seed", 0))
    found = None
    if pictures is not None and embedded is not None:
        searched = searching.search(pictures, embedded, gallery, embedded_gallery, seed=seed)
        tell(1, 4)
        found = _look(searched, seed)
    tell(3, 4)
    summary = summarise(run, None if found is None else found.searched, part)
    page = b""
    for share in SHARES:
        page = _render(run, summary, found, share, seed)
        if len(page) <= BYTES_AT_MOST:
            break
    path = folder / NAME if out is None else Path(out)
    replace(path, page)
    tell(4, 4)
    return path


def _look(searched: Searched, seed: int) -> Found:
    """All that is computed once, whatever the page can hold."""
    labels = searched.pictures.labels[searched.rows]
    sampled = embedding_map.sample(labels, seed=seed)
    return Found(
        searched,
        galleries.typical(searched, seed),
        galleries.failures(searched),
        confusions.worst_confusions(searched),
        confusions.class_scores(searched),
        embedding_map.project(searched.z[searched.rows[sampled]], seed),
        sampled,
    )


def _render(run: RunFiles, summary: Summary, found: Found | None, share: float, seed: int) -> bytes:
    trained = charts.training_charts(run.rows)
    drawn = [*trained.large, *trained.small]
    sections = []
    of_learners = learners_section(run.results, run.rows)
    asked = [*([of_learners] if of_learners else []), *run.sections]
    for number, section in enumerate(asked):
        budget = int(share * SECTION_BYTES / len(asked))
        blocks = parts.blocks(section, run.rows, f"section-{number}", budget_bytes=budget)
        drawn += [block.chart for block in blocks if block.chart is not None]
        sections.append((f"section-{number}", section, blocks))
    shown = {} if found is None else _pictured(found, share)
    if shown.get("map") is not None:
        drawn.append(shown["map"].chart)
    script, divs = scripts(drawn)
    text = template("report.html.j2").render(
        run=run,
        summary=summary,
        trained=trained,
        sections=sections,
        found=found,
        divs=divs,
        script=script,
        seed=seed,
        repeat=_repeat(run),
        **{"shown": None, "map": None, **shown},
    )
    return text.encode("utf-8", errors="replace")


def _pictured(found: Found, share: float) -> Mapping[str, Any]:
    """Thumbnails of all that is shown, and the map, which has its own."""
    searched = found.searched
    queries = [*found.typical, *found.failures]
    own = [query.query.row for query in queries] + [pair.query for pair in found.confused]
    others = [shown.row for query in queries for shown in query.neighbours]
    others += [pair.neighbour for pair in found.confused]
    budget = int(share * GALLERY_BYTES / 2)
    options = {"side": GALLERY_SIDE, "budget_bytes": budget}
    return {
        "shown": {
            "own": thumbnails(searched.pictures, own, **options),
            "others": thumbnails(searched.searched, others, **options),
        },
        "map": _map(found, share),
    }


def _map(found: Found, share: float) -> Map | None:
    if found.projection is None:
        return None
    searched = found.searched
    rows = searched.rows[found.sampled]
    budget = int(share * MAP_BYTES)
    small = thumbnails(searched.pictures, rows.tolist(), side=MAP_SIDE, budget_bytes=budget)
    first = embedding_map.first_label(searched.pictures.labels[rows])
    kinds = [searched.pictures.class_names[number] for number in first]
    wrong = searched.wrong_first[found.sampled]
    ringed = 0 < wrong.sum() <= RINGED_AT_MOST * len(wrong)
    order = np.argsort(first, kind="stable")  # colours in the order of the classes
    chart = scatter(
        found.projection.xy[order],
        [kinds[place] for place in order],
        [searched.pictures.paths[rows[place]] for place in order],
        key="map",
        pictures=[small.get(int(rows[place]), "") for place in order] if small else (),
        ringed=wrong[order] if ringed else None,
        axes=False,
        height=560,
    )
    classes = [searched.pictures.class_names[number] for number in np.unique(first)]
    return Map(
        chart,
        found.projection.method,
        len(rows),
        len(searched.pictures),
        classes if len(classes) > LEGEND else [],
        len(classes) > LOOKS,
        bool(small),
        bool(ringed),
    )


def _repeat(run: RunFiles) -> str:
    """The command that trains the same again, "" where there is no recipe."""
    if not run.recipe:
        return ""
    source = str(run.recipe.get("source", "PICTURES"))
    recipe, again = run.folder / "recipe.yaml", run.folder.with_name(f"{run.name}-again")
    command = (
        ["tupelo", "tvae", "train"] if run.results.get("kind") == "tvae" else ["tupelo", "train"]
    )
    return shlex.join([*command, source, "--recipe", str(recipe), "--out", str(again)])
