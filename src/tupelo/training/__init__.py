"""Training: one loop for all methods, on one device or several, that survives being killed."""

from tupelo.training.launching import fit
from tupelo.training.logs import read_rows
from tupelo.training.records import Progress, Run
from tupelo.training.settings import Settings

__all__ = ["Progress", "Run", "Settings", "fit", "read_rows"]
