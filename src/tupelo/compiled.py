"""Compiling numeric loops with numba, cached on disk where a folder for it can be written.

A compiled function also needs `@typing.no_type_check`: run-time checkers must not wrap it.
"""

from collections.abc import Callable

from numba import njit


def compiled(*, cached: bool = True, **options) -> Callable[[Callable], Callable]:
    """Decorator: compile on first call, keep the machine code for the next process if possible.

    Args:
        cached: keep machine code beside the module, or in the user's cache folder.
        **options: forwarded to `numba.njit`.
    """

    def decorate(function: Callable) -> Callable:
        try:
            return njit(cache=cached, **options)(function)
        except RuntimeError:  # a read-only installation without a cache folder of the user's
            return njit(**options)(function)

    return decorate
