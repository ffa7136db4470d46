"""Metrics for tables, as scikit-learn estimators: one-pass layers, and optimal metrics by solvers."""

from tupelo.tabular.generated import balance_scale, rings, waveform
from tupelo.tabular.metrics import LinearMetric

__all__ = ["LinearMetric", "balance_scale", "rings", "waveform"]
