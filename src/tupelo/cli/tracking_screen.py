"""What the commands for tracking write."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tupelo.cli.lines import Lines
from tupelo.recipes.footage import Footage
from tupelo.recipes.tracking import Cost, Result, Step
from tupelo.recipes.tracking_ablation import COLUMNS, Ablation
from tupelo.tracking import TrackerSettings

SCORES = ("MOTA", "MOTP", "IDF1", "HOTA", "DetA", "AssA")
COUNTS = ("MT", "ML", "FP", "FN", "IDs", "Frag")
PLAIN_EVERY = 20  # seconds between lines of progress, where no line can be redrawn


class TrackingScreen(Lines):
    """Written by `tupelo track`.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._clock = time.monotonic()

    @property
    def data(self) -> str:
        """What the commands for tracking read."""
        return "this sequence"

    def reading(self, stage: str, done: int, total: int) -> None:
        """Pictures are probed or decoded."""
        self._move(f"{stage.capitalize()} pictures", done, total)

    def rendering(self, done: int, total: int) -> None:
        """Frames of a scene are written."""
        self._move("Rendering", done, total)

    def begins(
        self, footage: Footage, settings: TrackerSettings, thresholds: str, frames: int
    ) -> None:
        """What will be tracked how."""
        count = len(footage.detections.frames)
        pictures = "" if footage.pictures is not None else ", no pictures"
        truth = ", with truth" if footage.truth is not None else ""
        self.line(
            f"sequence  [bold]{escape(footage.name)}[/bold]: {frames:,} frames, {count:,} "
            f"detections{pictures}{truth}"
        )
        names = ("against switches", "through occlusion", "proposals")
        switches = (settings.against_switches, settings.through_occlusion, settings.propose)
        uses = ", ".join(name for name, on in zip(names, switches, strict=True) if on)
        self.line(f"uses      {uses or 'none: motion and overlap alone'}")
        if settings.needs_embeddings:
            self.line(
                f"distance  appearance {settings.appearance:.3f}, after occlusion "
                f"{settings.reidentify:.3f}, proposals {settings.proposal:.3f}: {thresholds}"
            )
        self._clock = time.monotonic()

    def tracking(self, step: Step, cost: Cost, total: int) -> None:
        """A frame was tracked."""
        rates = cost.rates()
        speed = ", ".join(
            f"{name} {rates[name]:,.0f}/s" for name in ("association", "embedding") if name in rates
        )
        self._move("Tracking", step.number, total, speed)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._clock > PLAIN_EVERY:
            self._clock = now
            self.line(f"frame {step.number:,} of {total:,}  {speed}")

    def comparing(self, name: str, done: int, total: int) -> None:
        """A frame was tracked by all."""
        self._move(escape(name), done, total)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._clock > PLAIN_EVERY:
            self._clock = now
            self.line(f"{escape(name)}: frame {done:,} of {total:,}")

    def result(self, result: Result) -> None:
        """Tracks, speed, scores."""
        told = result.as_json()
        proposed = f", of which {result.proposals:,} proposed" if result.proposals else ""
        self.line(
            f"tracked   {told['frames']:,} frames: {told['tracks']:,} tracks, {told['boxes']:,} "
            f"boxes{proposed}"
        )
        rates = result.cost.rates()
        parts = ", ".join(f"{name} {rates[name]:,.0f}" for name in rates)
        self.line(f"speed     frames a second: {parts} (without detection and reading)")
        if result.scores is not None:
            self.scores(result.scores.as_json())

    def scores(self, values: Mapping[str, Any]) -> None:
        """One line of scores under their names."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in (*SCORES, *COUNTS):
            table.add_column(name, justify="right")
        shown = [f"{values[name]:.3f}" for name in SCORES]
        table.add_row(*shown, *(f"{values[name]:,}" for name in COUNTS))
        self.console.print(table)

    def ablation(self, found: Ablation) -> None:
        """One line for each choice of uses."""
        sequences = len(found.sequences)
        self.line(
            f"{found.frames:,} frames of {sequences} sequence{'s' * (sequences > 1)}, pooled; "
            "uses: 1 against switches, 2 through occlusion, 3 proposals"
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("uses")
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for row in found.rows:
            table.add_row(row.name, *row.cells())
        self.console.print(table)

    def written(self, paths: Sequence[tuple[str, Path]]) -> None:
        """What stands where."""
        for what, path in paths:
            self.line(f"{what:<8}  [bold]{escape(str(path))}[/bold]")
