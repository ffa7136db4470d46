"""Compiling numeric loops with numba, cached on disk where a folder for it can be written.

Compiled functions run without the GIL, so Python threads can share the work. Numba's own parallel
loops are not used: they share an OpenMP runtime with PyTorch and reset its number of threads.
"""

import inspect
from collections.abc import Callable

from numba import njit


def compiled(*, fastmath: bool | set[str] = False) -> Callable[[Callable], Callable]:
    """Decorator: compile on first call, keep the machine code for the next process if possible.

    Args:
        fastmath: freedoms for sums, as numba's option of that name.
    """

    def decorate(function: Callable) -> Callable:
        function = inspect.unwrap(function)  # run-time type checkers wrap what they import
        options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder that it may write
            return njit(**options)(function)

    return decorate
