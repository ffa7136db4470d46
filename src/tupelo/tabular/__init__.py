"""Metrics for tables, as scikit-learn estimators: learned in one pass, or optimal by solvers."""

from tupelo.tabular.columns import Column, Columns
from tupelo.tabular.generated import balance_scale, rings, waveform
from tupelo.tabular.metrics import LinearMetric
from tupelo.tabular.saving import TableMetric, load, save

__all__ = [
    "LinearMetric",
    "Column",
    "Columns",
    "TableMetric",
    "balance_scale",
    "load",
    "rings",
    "save",
    "waveform",
]
