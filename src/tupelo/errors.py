"""Every exception Tupelo raises on purpose.

TupeloError
├── InputError         an argument or a batch breaks a stated requirement (also a ValueError)
├── DataError          a file, folder or data set cannot be used
├── MissingExtra       an optional dependency is not installed (also an ImportError)
├── CheckpointError    a saved run cannot be read or does not fit
├── TrackingDiverged   the filter of a track broke down (also an ArithmeticError)
└── TrainingDiverged   a loss became NaN or infinite; names the part (also an ArithmeticError)

A message names the argument, what must hold, what came, and what to do.
"""


class TupeloError(Exception):
    """Root of all errors raised on purpose."""


class InputError(TupeloError, ValueError):
    """An argument or a batch breaks a stated requirement."""


class DataError(TupeloError):
    """A file, folder or data set cannot be used."""


class MissingExtra(TupeloError, ImportError):
    """An optional dependency is not installed; the message holds the install command."""


class CheckpointError(TupeloError):
    """A saved run cannot be read, or does not fit the objects it is loaded into."""


class TrackingDiverged(TupeloError, ArithmeticError):
    """The covariance of a track is not positive definite any more; track and frame are named."""


class TrainingDiverged(TupeloError, ArithmeticError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""
