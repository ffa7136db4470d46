"""Files that the commands for tables write."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from tupelo.errors import InputError, MissingExtra
from tupelo.recipes.tables import Table, texts_of
from tupelo.tabular.saving import TableMetric


def write_embedding(metric: TableMetric, table: Table, out: Path) -> tuple[int, int]:
    """Write the embedding of every row, with its class where the table has it.

    Args:
        metric: as loaded.
        table: with the columns the metric was fitted to.
        out: ends in .csv, .npz or .parquet.

    Returns:
        Rows and dimensions.

    Raises:
        InputError: another ending, a column is missing, or the metric has no embedding.
        MissingExtra: Parquet without pyarrow.
    """
    check_embedding(out)
    z = metric.transform(table.columns)
    labels = table.columns.get(metric.target)
    names = [f"z{place}" for place in range(z.shape[1])]
    out.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    if out.suffix == ".npz":
        kept = {} if labels is None else {"label": _words(labels)}
        np.savez(buffer, allow_pickle=False, z=z, **kept)
    elif out.suffix == ".csv":
        words = None if labels is None else _words(labels)
        rows = (
            [*row, *([] if words is None else [words[place]])]
            for place, row in enumerate(z.tolist())
        )
        buffer.write(as_csv([*names, *([] if labels is None else [metric.target])], rows))
    else:
        import pyarrow as pa
        from pyarrow import parquet

        columns: dict[str, Any] = dict(zip(names, z.T, strict=True))
        if labels is not None:
            columns[metric.target] = _words(labels)
        parquet.write_table(pa.table(columns), buffer)
    replace(out, buffer.getvalue())
    return z.shape[0], z.shape[1]


def check_embedding(out: Path) -> None:
    """Embeddings can be written there.

    Raises:
        InputError: another ending.
        MissingExtra: Parquet without pyarrow.
    """
    if out.suffix not in (".csv", ".npz", ".parquet"):
        raise InputError(f"--out {out} must end in .csv, .npz or .parquet")
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                f"writing {out.name} needs pyarrow: pip install 'tupelo[tables]'"
            ) from error


def replace(path: Path, content: bytes) -> None:
    """Write a file in one step, so that a reader never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as the content of a CSV file; None is an empty cell.

    >>> as_csv(["a", "b"], [[1, None], ["x,y", 0.5]])
    b'a,b\\n1,\\n"x,y",0.5\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue().encode()


def _words(labels: ndarray) -> ndarray:
    given = texts_of(labels)
    return np.array(["" if label is None else label for label in given])
