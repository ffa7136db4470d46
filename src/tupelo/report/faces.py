"""Pages about face verification: pairs in folds, and templates in splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tupelo.recipes.faces_evaluating import FARS, PairsJudged
from tupelo.recipes.faces_templates import FPIRS, RANKS, TemplatesJudged
from tupelo.report.face_figures import cmc_chart, det_chart, roc_chart, score_chart
from tupelo.report.rendering import check_extra, replace, scripts, template
from tupelo.report.tabular import Section

__all__ = ["check_extra", "of_pairs", "of_templates"]


def of_pairs(judged: PairsJudged, out: Path, *, title: str = "") -> Path:
    """Accuracy with its spread, ROC, DET, scores, and every fold.

    Args:
        judged: what was measured.
        out: the page; replaced in one step.
        title: what was judged.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    roc, folds = judged.roc, judged.accuracy
    if folds is not None:
        decided = [("accuracy", f"{folds}")]
        thresholds: Sequence[float] = sorted(set(folds.thresholds))
    else:
        decided = [
            ("accuracy", f"{100 * (judged.at or 0):.2f} %"),
            ("threshold", f"{judged.threshold:.4f}"),
        ]
        thresholds = [judged.threshold] if judged.threshold is not None else []
    rows = [*decided, ("AUC", f"{roc.auc:.4f}"), ("EER", f"{100 * roc.eer:.2f} %")]
    rows += [(f"TAR at FAR {far:g}", _percent(roc.tar_at(far))) for far in FARS]
    sections = [
        Section("Result", header=["measure", "value"], rows=rows, lines=judged.notes),
        Section(
            "Errors",
            f"Of {len(roc.genuine):,} pairs of one person and {len(roc.impostor):,} of two.",
            [roc_chart({judged.protocol: roc}, FARS), det_chart({judged.protocol: roc})],
            beside=True,
        ),
        Section("Scores", "Cosine of the two sides of a pair.", [score_chart(roc, thresholds)]),
    ]
    if folds is not None:
        sections.append(
            Section(
                "Folds",
                "The threshold of each fold was chosen on all others.",
                header=["fold", "accuracy", "threshold"],
                rows=[
                    [place, f"{100 * accuracy:.2f} %", f"{threshold:.4f}"]
                    for place, (accuracy, threshold) in enumerate(
                        zip(folds.per_fold, folds.thresholds, strict=True), 1
                    )
                ],
            )
        )
    sections.append(_about(judged.about))
    lead = (
        f"{len(judged.scores):,} pairs in {judged.listed.n_folds} fold"
        f"{'s' * (judged.listed.n_folds > 1)}, {len(judged.listed.names):,} "
        f"{'videos' if judged.protocol == 'YTF' else 'pictures'}."
    )
    return _write(out, f"{judged.protocol} verification", title or judged.protocol, lead, sections)


def of_templates(judged: TemplatesJudged, out: Path, *, title: str = "") -> Path:
    """TAR at FAR, ranks and TPIR at FPIR with their spread, and curves of every split.

    Args:
        judged: what was measured.
        out: the page; replaced in one step.
        title: what was judged.

    Raises:
        MissingExtra: bokeh or jinja2 is not installed.
    """
    check_extra()
    rows = []
    if judged.rocs:
        rows += [("1:1", f"TAR at FAR {far:g}", str(judged.tar(far))) for far in FARS]
    if judged.searches:
        rows += [("1:N", f"rank {rank}", str(judged.cmc(rank))) for rank in RANKS]
    if judged.searches and judged.open_set:
        most = judged.max_rank
        rows += [
            ("1:N open", f"TPIR at FPIR {fpir:g}, rank {most} at most", str(judged.tpir(fpir)))
            for fpir in FPIRS
        ]
    sections = [
        Section(
            "Result",
            "Mean ± standard deviation (ddof 1) over splits.",
            header=["", "measure", "value"],
            rows=rows,
            lines=judged.notes,
        )
    ]
    if judged.rocs:
        rocs = {f"split {split}": roc for split, roc in judged.rocs.items()}
        charts = [roc_chart(rocs, FARS if len(rocs) == 1 else ()), det_chart(rocs)]
        sections.append(Section("Comparing, 1:1", "A line a split.", charts, beside=True))
    if judged.searches:
        named = {f"split {split}": found for split, found in judged.searches.items()}
        sections.append(
            Section(
                "Searching, 1:N",
                "Ties count against the mate.",
                [cmc_chart(named)],
                header=["split", "gallery", "probes with a mate", "without", "rank 1"],
                rows=[
                    [name, found.n_gallery, len(found.ranks), len(found.highest),
                     f"{100 * found.cmc(1):.2f} %"]
                    for name, found in named.items()
                ],
            )
        )  # fmt: skip
    lost = sum(judged.failures.values())
    lines = [f"{lost:,} templates without a face, which score lowest and are not left out."]
    sections.append(Section("Failures to enrol", lines=lines))
    sections.append(_about(judged.about))
    splits = len(judged.rocs.keys() | judged.searches.keys())
    lead = f"Templates of pictures and video frames in {splits} split{'s' * (splits > 1)}."
    return _write(out, "IJB-A", title or "IJB-A", lead, sections)


def _about(about: dict[str, Any]) -> Section:
    return Section("How it was measured", header=["", ""], rows=list(about.items()))


def _percent(share: float | None) -> str:
    return "not measurable" if share is None else f"{100 * share:.2f} %"


def _write(out: Path, kind: str, title: str, lead: str, sections: Sequence[Section]) -> Path:
    script, divs = scripts([chart for section in sections for chart in section.charts])
    text = template("table.html.j2").render(
        kind=kind, title=title, lead=lead, cards=[], sections=sections, divs=divs, script=script
    )
    replace(out, text.encode("utf-8", errors="replace"))
    return out
