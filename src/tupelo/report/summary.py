"""What stands at the head of the page: what was trained on what, what it came to, what to mind."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tupelo.report import scores
from tupelo.report.reading import RunFiles
from tupelo.report.searched import Searched
from tupelo.report.tvae import autoencoder_sentence

SYNTHESIS = {
    "hdml": " and synthetic negatives (HDML)",
    "iaa": " and synthetic members of classes (IAA)",
}
ENSEMBLES = {
    "abe": "{} learners with attention masks (ABE)",
    "heads": "{} learners with heads of their own",
    "bier": "{} boosted learners (BIER)",
    "dreml": "{} networks on random meta-classes (DREML)",
}
PARTS = {"train": "training", "validation": "validation", "test": "test", "gallery": "gallery"}


@dataclass(frozen=True)
class Summary:
    """The head of the page.

    Attributes:
        sentence: what was trained on what.
        facts: (name, value) of time, seed and date.
        headlines: the scores that stand in front.
        table: all scores.
        counts: a sentence on queries and gallery.
        warnings: what to mind when reading the scores.
        parts: (name, pictures, classes) as far as known.
        part: what was measured: "test", "validation", "train" or "".
        labels: what pictures bear: "classes" or "tags".
    """

    sentence: str
    facts: list[tuple[str, str]]
    headlines: list[scores.Line]
    table: list[scores.Line]
    counts: str
    warnings: list[str]
    parts: list[tuple[str, int, int]]
    part: str
    labels: str


def summarise(run: RunFiles, searched: Searched | None, part: str = "") -> Summary:
    """The head of the page of a run.

    Args:
        run: what the run left.
        searched: the pictures it is shown on.
        part: what these are; "": what the run measured.
    """
    measured = str(run.results.get("part") or "")
    part = part or measured
    before, after = run.scores("before"), run.scores("after")
    warnings = []
    if searched is not None and (part != measured or not after):
        before, after = {}, searched.scores  # the run measured others, or nothing
    elif searched is not None and after.get("n_queries") != len(searched.pictures):
        warnings.append(
            f"The pictures read now are {len(searched.pictures):,}, those measured at the end of "
            f"training were {int(after.get('n_queries', 0)):,}: scores are of then, pictures, "
            "confusions and map of now."
        )
    data: Mapping[str, Any] = run.results.get("data") or {}
    warnings = [*_warnings(part, after, data, run), *warnings]
    parts = [
        (PARTS[name], int(data[name]["pictures"]), int(data[name]["classes"]))
        for name in PARTS
        if data.get(name)
    ]
    if not parts and searched is not None:
        parts = [(PARTS.get(part, "shown"), len(searched.pictures), searched.pictures.n_classes)]
    own = data.get("gallery") is None if searched is None else searched.own
    return Summary(
        sentence=_sentence(run, data, part, after),
        facts=_facts(run),
        headlines=scores.headlines(before, after),
        table=scores.table(before, after),
        counts=scores.counts(after, own=own),
        warnings=warnings,
        parts=parts,
        part=part,
        labels="tags" if _tagged(run, searched) else "classes",
    )


def _tagged(run: RunFiles, searched: Searched | None) -> bool:
    return bool((run.results.get("data") or {}).get("tagged", searched and searched.tagged))


def _warnings(part: str, after: scores.Scores, data: Mapping[str, Any], run: RunFiles) -> list[str]:
    found = []
    if after.get("collapsed"):
        found.append(
            "The embedding has collapsed: all pictures are mapped to one point, so neighbours are "
            "arbitrary and these scores mean nothing. A lower rate or another loss may help."
        )
    if part == "validation":
        found.append(
            "These scores are of the validation part, on which the best weights were chosen, so "
            "they are somewhat too good; the run had no test part, or it was not asked for."
        )
    if part == "train":
        found.append(
            "These pictures trained the network, so the scores are too good to say how it does "
            "on others."
        )
    if data.get("shared_classes") and part == run.results.get("part"):
        kind = "tags" if data.get("tagged") else "classes"
        found.append(
            f"The {part or 'measured'} {kind} also trained (with other pictures), so the scores "
            f"say nothing about {kind} that are new."
        )
    if run.results and not after and "training" not in run.results:
        found.append("The run has not finished: what is shown is as far as it came.")
    return found


def _sentence(run: RunFiles, data: Mapping[str, Any], part: str, after: scores.Scores) -> str:
    recipe, labels = run.recipe, "tags" if data.get("tagged") else "classes"
    if run.results.get("kind") == "tvae":
        return autoencoder_sentence(recipe, data, part)
    if not recipe:
        return "A network trained from Python; the run holds no recipe that would tell more."
    start = "published weights" if recipe.get("pretrained") else recipe.get("weights")
    chosen = [f"{name}: {recipe[name]}" for name in ("positives", "negatives") if recipe.get(name)]
    learners = ENSEMBLES.get(recipe.get("ensemble", ""), "").format(recipe.get("learners"))
    taught = f"trained with the {recipe.get('loss')} loss"
    if _of_merged_classes(recipe):
        taught, chosen = "each trained to classify its meta-classes", []
    sentence = (
        f"{recipe.get('backbone')} with {recipe.get('dim')} dimensions"
        + (f" of {learners}" if learners else "")
        + ", from "
        f"{start or 'random weights'}, {taught}"
        + (f" ({', '.join(chosen)})" if chosen else "")
        + SYNTHESIS.get(recipe.get("synthesis", ""), "")
    )
    if data.get("train"):
        sentence += f" on {_many(data['train'], labels=labels)}"
    judged = data.get(part)
    if judged:
        # what else is shown was not compared with the classes that trained
        new = part == run.results.get("part") and not data.get("shared_classes")
        sentence += f"; measured on {_many(judged, PARTS[part], labels=labels)}"
        sentence += ", none of which trained" if new else ""
    elif "n_queries" in after:
        kind = f"{PARTS[part]} " if part in PARTS else ""
        sentence += f"; measured on {int(after['n_queries']):,} {kind}pictures"
    return f"{sentence}."


def _of_merged_classes(recipe: Mapping[str, Any]) -> bool:
    """Whether members of DREML classify; the recipe's loss and selection are then not used."""
    learns = (recipe.get("ensemble_options") or {}).get("learns", "classification")
    return recipe.get("ensemble") == "dreml" and learns == "classification"


def _many(side: Mapping[str, int], kind: str = "", *, labels: str) -> str:
    of = "with" if labels == "tags" else "of"
    return f"{side['pictures']:,} {kind} pictures {of} {side['classes']:,} {labels}".replace(
        "  ", " "
    )


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    found = []
    training = run.results.get("training") or {}
    if "seconds" in training:
        found.append(("training", duration(float(training["seconds"]))))
    if "steps" in training:
        stopped = ", stopped early" if training.get("stopped") == "patience" else ""
        found.append(("steps", f"{int(training['steps']):,}{stopped}"))
    elif run.rows:
        found.append(("steps", f"{int(run.rows[-1].get('step', 0)):,}"))
    if "seed" in run.recipe:
        found.append(("seed", str(run.recipe["seed"])))
    begun = run.environment.get("begun")
    if begun:
        found.append(("begun", _date(str(begun))))
    return found


def duration(seconds: float | int) -> str:
    """A time in words.

    >>> duration(25.4), duration(75), duration(7384)
    ('25 s', '1 min 15 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _date(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text
