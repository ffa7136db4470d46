"""What the commands that train write of the pictures they have read."""

from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from tupelo.cli.lines import Lines
from tupelo.data import ImageData
from tupelo.data.listing import count_kinds


def show_data(lines: Lines, data: ImageData, listed: Path) -> None:
    """The parts with their classes, and what was left out.

    Args:
        lines: where to.
        data: the pictures.
        listed: the file that names those that cannot be used.
    """
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in ("part", "pictures", "classes", "of a class"):
        table.add_column(column, justify="left" if column == "part" else "right")
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    if data.gallery is not None:
        parts["gallery"] = data.gallery
    for name, part in parts.items():
        if part is None:
            table.add_row(name, "-", "-", "-")
            continue
        counts = np.bincount(part.labels) if part.labels.ndim == 1 else part.labels.sum(0)
        least, most = int(counts.min()), int(counts.max())
        spread = f"{least:,} to {most:,}" if least < most else f"{least:,}"
        table.add_row(name, f"{len(part):,}", f"{part.n_classes:,}", spread)
    lines.console.print(table)
    height, width = data.train.size
    kind = "grey" if data.train.channels == 1 else "colour"
    where = "held in memory" if data.train.in_memory else "decoded for every batch"
    lines.line(f"{kind} pictures of {height} x {width} pixels, {where}")
    if data.bad:
        lines.line(
            f"[yellow]left out {len(data.bad):,}[/yellow] ({escape(count_kinds(data.bad))}), "
            f"listed in {escape(str(listed))}"
        )
    for note in data.notes:
        lines.note(note)
    if not data.validation:
        lines.line("no validation part: the weights of the last step are kept")
