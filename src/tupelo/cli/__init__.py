"""The command line: `tupelo train | evaluate | embed | demo`."""

from tupelo.cli.commands import app

__all__ = ["app"]
