"""The command line: importing a module of commands adds them to the application."""

from tupelo.cli import main_job, reporting
from tupelo.cli.app import app

__all__ = ["app", "main_job", "reporting"]
