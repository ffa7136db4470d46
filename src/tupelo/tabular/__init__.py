"""Metrics for tables, as scikit-learn estimators: learned in one pass, or optimal by solvers."""

from tupelo.tabular.active.asking import ActiveLearner
from tupelo.tabular.active.recommending import Suggestion
from tupelo.tabular.active.regions import Region
from tupelo.tabular.columns import Column, Columns
from tupelo.tabular.generated import balance_scale, rings, waveform
from tupelo.tabular.metrics import LinearMetric
from tupelo.tabular.online.estimator import ODML
from tupelo.tabular.online.oasis import OASIS
from tupelo.tabular.optimal.estimator import MIOMetric
from tupelo.tabular.optimal.outcome import MIOReport
from tupelo.tabular.saving import TableMetric, load, save

__all__ = [
    "LinearMetric",
    "ODML",
    "OASIS",
    "MIOMetric",
    "MIOReport",
    "ActiveLearner",
    "Suggestion",
    "Region",
    "Column",
    "Columns",
    "TableMetric",
    "balance_scale",
    "load",
    "rings",
    "save",
    "waveform",
]
