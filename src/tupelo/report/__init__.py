"""One self-contained HTML page that shows what a run came to."""

from tupelo.report.page import write

__all__ = ["write"]
