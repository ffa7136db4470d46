"""One self-contained HTML page that shows what a run came to.

`write` is loaded when it is first used: pages about tables need no network, and load no torch.
"""

from typing import TYPE_CHECKING

__all__ = ["write"]

if TYPE_CHECKING:
    from tupelo.report.page import write


def __getattr__(name: str) -> object:
    if name == "write":
        from tupelo.report.page import write

        return write
    raise AttributeError(f"module 'tupelo.report' has no attribute {name!r}")
