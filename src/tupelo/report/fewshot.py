"""Pages about few-shot learning: of a run, and of pictures that were classified."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupelo.data import ImageSet
from tupelo.fewshot import Calibration
from tupelo.recipes.fewshot import read_calibration
from tupelo.recipes.fewshot_classifying import Answers
from tupelo.recipes.fewshot_measuring import Scores, Task
from tupelo.recipes.fewshot_recipe import TITLES
from tupelo.report.charts import Charts, training_charts
from tupelo.report.figures import Drawn
from tupelo.report.reading import RunFiles, read
from tupelo.report.reliability import diagram
from tupelo.report.rendering import check_extra, replace, scripts, template
from tupelo.report.summary import PARTS, duration
from tupelo.report.thumbnails import thumbnails

__all__ = ["NAME", "check_extra", "of_answers", "of_run"]

NAME = "report.html"
ASKED_BYTES, KNOWN_BYTES = 3_000_000, 2_000_000
SIDE = 112  # of a picture, in pixels
QUERIES, CLASSES, SUPPORT = 60, 5, 10  # shown
UNSURE = 0.5  # an answer with less
NARROW = 4  # pictures of a class with which two tasks fit beside each other
EMPTY: dict[str, Any] = {
    "answers": (), "support": (), "about_answers": "", "more_answers": 0, "left_out": (),
    "tasks": (), "narrow_tasks": False, "about_tasks": "",
    "diagrams": (), "temperatures": (), "about_calibration": "",
    "trained": None, "parts": (), "repeat": "", "recipe_text": "", "environment": {},
    "cards": (), "facts": (), "warnings": (), "missing": (), "asked": {}, "known": {},
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A number in front of all others, with what it is to be compared with."""

    name: str
    value: str
    below: str


@dataclass(frozen=True)
class Bar:
    """A class and its probability, as text and in per cent of the width."""

    name: str
    value: str
    width: float


def of_run(
    folder: Path,
    pictures: ImageSet | None = None,
    tasks: Sequence[Task] = (),
    *,
    out: Path | None = None,
) -> Path:
    """Write the page of a run: accuracy, tasks with their answers, calibration, curves, recipe.

    Args:
        folder: of the run.
        pictures: those of the tasks.
        tasks: a few episodes with their answers; () where they are not shown.
        out: the page; default `report.html` in the run. Replaced in one step.

    Raises:
        InputError: the folder holds no run.
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    run = read(folder)
    before: Scores = dict(run.scores("before"))
    after: Scores = dict(run.scores("after"))
    trained = training_charts(run.rows)
    calibration = read_calibration(folder)
    told = after.get("reliability") or {}
    diagrams = [
        diagram(told[when], title)
        for when, title in (("before", "Without temperature"), ("after", "Calibrated"))
        if when in told
    ]
    shown = {} if pictures is None else _of_tasks(pictures, tasks)
    values = EMPTY | {
        "kind": "Tupelo few-shot report",
        "title": run.name,
        "lead": _sentence(run, after),
        "facts": _facts(run),
        "cards": _cards(before, after),
        "warnings": _warnings(run, after),
        "missing": run.missing,
        "diagrams": diagrams,
        "temperatures": _temperatures(calibration),
        "about_calibration": _about_calibration(run, after),
        "trained": trained,
        "parts": _parts(run),
        "repeat": _repeat(run),
        "recipe_text": run.recipe_text,
        "environment": run.environment,
        **shown,
    }
    return _write(out or folder / NAME, values, [*diagrams, *trained.large, *trained.small])


def of_answers(found: Answers, out: Path, *, run: str = "") -> Path:
    """Write the page of pictures that were classified, with the nearest support pictures of each.

    Args:
        found: the answers.
        out: the page; replaced in one step.
        run: name of the run that answered.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    support, queries = found.support, found.queries
    places = range(min(QUERIES, len(queries.labels)))
    answers = [_answer(found, place) for place in places]
    near = [row for place in places for row, _ in found.near(place)]
    classes = _support(found)
    rows = [row for one in classes for row in one["rows"]]
    measured = {"distance": "Euclidean distance", "cosine similarity": "cosine similarity"}
    values = EMPTY | {
        "kind": "Few-shot answers",
        "title": f"{_count(len(queries.labels), 'picture')} among {len(classes)} classes",
        "lead": f"Answered{f' by {run}' if run else ''} from {len(support.pictures):,} pictures in "
        f"{support.source}, of classes that need not have trained.",
        "cards": _cards_of_answers(found),
        "warnings": [] if found.fitted or found.given else [
            "The run has no temperatures, which validation classes give, so these probabilities "
            "are not calibrated."
        ],
        "answers": answers,
        "more_answers": len(queries.labels) - len(answers),
        "about_answers": "Probabilities of the classes, and the nearest pictures of the support, "
        f"the nearest first, with their {measured[found.classified.measure]}.",
        "support": classes,
        "left_out": [f"{one.path}: {one.reason}" for one in (*support.bad, *queries.bad)],
        "asked": thumbnails(queries.pictures, list(places), side=SIDE, budget_bytes=ASKED_BYTES),
        "known": thumbnails(support.pictures, rows + near, side=SIDE, budget_bytes=KNOWN_BYTES),
    }  # fmt: skip
    return _write(out, values, [])


def _write(out: Path, values: dict[str, Any], drawn: Sequence[Drawn]) -> Path:
    script, divs = scripts(drawn)
    trained: Charts | None = values["trained"]
    headings = {
        "answers": "Answers" if values["answers"] else "",
        "support": "Support" if values["support"] else "",
        "tasks": "Tasks" if values["tasks"] else "",
        "calibration": "Calibration" if values["diagrams"] or values["temperatures"] else "",
        "training": "Training" if trained and (trained.large or trained.small) else "",
        "data": "Data and recipe" if values["recipe_text"] or values["parts"] else "",
    }
    contents = [(name, heading) for name, heading in headings.items() if heading]
    text = template("fewshot.html.j2").render(**values, contents=contents, script=script, divs=divs)
    replace(out, text.encode("utf-8", errors="replace"))
    return out


def _answer(found: Answers, place: int) -> dict[str, Any]:
    ranked = found.ranked(place)
    pictures, queries = found.support.pictures, found.queries
    path = queries.pictures.paths[place]
    return {
        "row": place,
        "path": path,
        "file": Path(path).name,
        "label": queries.labels[place],
        "right": found.right[place],
        "copy_of": found.copies[place],
        "unsure": ranked[0][1] < UNSURE,
        "classes": [Bar(name, f"{100 * p:.1f} %", 100 * p) for name, p in ranked[:CLASSES]],
        "others": len(ranked) - len(ranked[:CLASSES]),
        "rest": f"{100 * sum(p for _, p in ranked[CLASSES:]):.1f} %",
        "neighbours": [
            {
                "row": row,
                "path": pictures.paths[row],
                "file": Path(pictures.paths[row]).name,
                "label": pictures.class_names[int(pictures.labels[row])],
                "closeness": f"{closeness:.3f}",
            }
            for row, closeness in found.near(place)
        ],
    }


def _support(found: Answers) -> list[dict[str, Any]]:
    labels = found.support.pictures.labels
    return [
        {
            "name": name,
            "count": int((labels == number).sum()),
            "rows": np.flatnonzero(labels == number)[:SUPPORT].tolist(),
        }
        for number, name in enumerate(found.support.pictures.class_names)
    ]


def _cards_of_answers(found: Answers) -> list[Card]:
    cards = []
    known = [right for right in found.right if right is not None]
    if known:
        share = f"{100 * sum(known) / len(known):.1f} %"
        told = f"{sum(known):,} of {len(known):,}, by the names of their folders"
        cards.append(Card("right", share, told))
    sure = found.classified.probabilities.amax(1)
    unsure = int((sure < UNSURE).sum())
    cards.append(
        Card("mean probability", f"{100 * float(sure.mean()):.1f} %", f"{unsure:,} unsure")
    )
    fitted = found.fitted
    if fitted is not None:
        like = f"{fitted.ways} classes, {_count(fitted.shots, 'picture')} each"
        cards.append(Card("to be expected", f"{100 * fitted.accuracy:.1f} %", f"right: {like}"))
        cards.append(
            Card(
                "calibration error",
                f"{100 * fitted.after:.1f} %",
                f"without temperature {100 * fitted.before:.1f} %",
            )
        )
    return cards


def _of_tasks(pictures: ImageSet, tasks: Sequence[Task]) -> dict[str, Any]:
    names = pictures.class_names
    found = []
    for one in tasks:
        of = [names[int(pictures.labels[row])] for row in one.support[:, 0]]
        found.append(
            {
                "classes": [
                    {
                        "name": name,
                        "support": one.support[slot].tolist(),
                        "queries": [
                            {
                                "row": int(row),
                                "right": int(answer) == slot,
                                "answer": of[int(answer)],
                                "probability": f"{100 * float(p):.0f} %",
                            }
                            for row, answer, p in zip(
                                one.queries[slot],
                                one.answers[slot],
                                one.probabilities[slot],
                                strict=True,
                            )
                        ],
                    }
                    for slot, name in enumerate(of)
                ]
            }
        )
    rows = [int(row) for one in tasks for side in (one.support, one.queries) for row in side.flat]
    return {
        "tasks": found,
        "narrow_tasks": all(one.support.shape[1] + one.queries.shape[1] <= NARROW for one in tasks),
        "about_tasks": f"{_count(len(tasks), 'episode')} drawn at random: on the left the support "
        "of each class, on the right queries of that class, with the probability of the answer.",
        "asked": thumbnails(pictures, rows, side=SIDE, budget_bytes=ASKED_BYTES),
    }


def _sentence(run: RunFiles, after: Scores) -> str:
    recipe = run.recipe
    if not recipe:
        return "A few-shot learner trained from Python; the run holds no recipe."
    data = run.results.get("data") or {}
    title = TITLES.get(str(recipe.get("method")), str(recipe.get("method")))
    told = f"A {title} on {recipe.get('encoder')}"
    if data.get("train"):
        train = data["train"]
        turned = ", turned ones included" * bool(recipe.get("rotations"))
        told += (
            f", trained on {train['pictures']:,} pictures of {train['classes']:,} classes{turned}"
        )
    part = str(run.results.get("part") or "")
    if after and data.get(part):
        told += (
            f"; judged by {after['episodes']:,} {after['ways']}-way {after['shots']}-shot episodes "
            f"of {data[part]['classes']:,} {PARTS[part]} classes, none of which trained"
        )
    return f"{told}."


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    training = run.results.get("training") or {}
    found = []
    if "seconds" in training:
        found.append(("training", duration(float(training["seconds"]))))
    if "steps" in training:
        stopped = ", stopped early" if training.get("stopped") == "patience" else ""
        found.append(("steps", f"{int(training['steps']):,}{stopped}"))
    if "seed" in run.recipe:
        found.append(("seed", str(run.recipe["seed"])))
    return found


def _cards(before: Scores, after: Scores) -> list[Card]:
    if not after:
        return []
    cards = [
        Card(
            f"accuracy, {after['ways']}-way {after['shots']}-shot",
            f"{100 * after['accuracy']:.2f} %",
            f"± {100 * after['interval']:.2f}, 95 % over {after['episodes']:,} episodes",
        )
    ]
    if before:
        cards.append(
            Card(
                "before training",
                f"{100 * before['accuracy']:.2f} %",
                f"± {100 * before['interval']:.2f}",
            )
        )
    told = after.get("reliability")
    if told:
        cards.append(
            Card(
                "calibration error",
                f"{100 * told['after']['error']:.1f} %",
                f"without temperature {100 * told['before']['error']:.1f} %",
            )
        )
    return cards


def _warnings(run: RunFiles, after: Scores) -> list[str]:
    found = []
    if run.results.get("part") == "validation":
        found.append(
            "These scores are of the validation classes, on which the best weights were chosen, so "
            "they are somewhat too good; the run had no test classes."
        )
    if run.results and not after:
        found.append("The run has not finished: what is shown is as far as it came.")
    return found


def _temperatures(calibration: Calibration | None) -> list[tuple[str, ...]]:
    if calibration is None:
        return []
    return [
        (
            f"{one.ways}",
            f"{one.shots}",
            f"{one.temperature:.3g}",
            f"{100 * one.accuracy:.1f} %",
            f"{100 * one.before:.1f} %",
            f"{100 * one.after:.1f} %",
        )
        for one in calibration.temperatures
    ]


def _about_calibration(run: RunFiles, after: Scores) -> str:
    if "temperature" not in after:
        return "How far probabilities are off, by the number of classes and of pictures of each."
    part = PARTS.get(str(run.results.get("part")), "")
    return (
        f"Answers to {part} episodes by their probability: were they as often right as they were "
        "sure, every bar would end at the dashed line; the darker a bar, the more answers. The "
        f"temperature {after['temperature']:.3g} divides what the network says; it was fitted to "
        "validation classes, and the answers stay the same."
    )


def _parts(run: RunFiles) -> list[tuple[str, str, str]]:
    data = run.results.get("data") or {}
    return [
        (PARTS[name], f"{int(data[name]['pictures']):,}", f"{int(data[name]['classes']):,}")
        for name in PARTS
        if data.get(name)
    ]


def _repeat(run: RunFiles) -> str:
    """The command that trains the same again, "" where there is no recipe."""
    if not run.recipe:
        return ""
    source = str(run.recipe.get("source", "PICTURES"))
    recipe, again = run.folder / "recipe.yaml", run.folder.with_name(f"{run.name}-again")
    words = ["tupelo", "fewshot", "train", source, "--recipe", str(recipe), "--out", str(again)]
    return shlex.join(words)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
