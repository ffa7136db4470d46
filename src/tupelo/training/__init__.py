"""Training: one loop for all methods, on one device or several, that survives being killed."""

from tupelo.training.launching import fit
from tupelo.training.logs import read_rows
from tupelo.training.records import Judge, Progress, Run
from tupelo.training.settings import Settings

__all__ = ["Judge", "Progress", "Run", "Settings", "fit", "read_rows"]
