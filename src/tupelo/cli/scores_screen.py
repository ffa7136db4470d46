"""What `tupelo track evaluate` writes."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from tupelo.cli.lines import Lines

if TYPE_CHECKING:
    from tupelo.recipes.tracks_evaluating import TracksJudged

RATIOS = ("MOTA", "MOTP", "IDF1", "HOTA", "DetA", "AssA")
COUNTS = ("MT", "ML", "FP", "FN", "IDs", "Frag")


class ScoresScreen(Lines):
    """Scores of a tracker, sequence by sequence."""

    @property
    def data(self) -> str:
        """What the command reads."""
        return "these files"

    def scoring(self, name: str, done: int, total: int) -> None:
        """A sequence begins."""
        self._move(f"Scoring {escape(name)}", done, total)

    def judged(self, judged: "TracksJudged", convention: str, written: Path) -> None:
        """One line for each sequence and, of several, one for all together."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("sequence", overflow="fold")
        for name in (*RATIOS, *COUNTS):
            table.add_column(name, justify="right", no_wrap=True)
        rows = [(escape(name), scores, "") for name, scores in judged.sequences.items()]
        if len(rows) > 1:
            rows.append(("pooled", judged.together, "bold"))
        for name, scores, style in rows:
            told = scores.as_json()
            ratios = (f"{told[ratio]:.3f}" for ratio in RATIOS)
            table.add_row(name, *ratios, *(f"{told[count]:,}" for count in COUNTS), style=style)
        self.console.print(table)
        rules = ", ".join(dict.fromkeys(judged.benchmark.values()))
        self.line(f"rules    {rules}; CLEAR MOT as {convention}")
        if judged.unused:
            self.note(f"results without a truth are not scored: {', '.join(judged.unused)}")
        self.path("written", written)
