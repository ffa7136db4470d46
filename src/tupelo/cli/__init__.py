"""The command line: importing a module of commands adds them to the application."""

from tupelo.cli import (
    datasets,
    demo,
    exporting,
    faces,
    faces_evaluating,
    faces_using,
    fewshot,
    main_job,
    reid,
    reporting,
    searching,
    tabular,
    track_evaluating,
    tracking_run,
    tvae,
)
from tupelo.cli.app import app

__all__ = [
    "app",
    "datasets",
    "demo",
    "exporting",
    "faces",
    "faces_evaluating",
    "faces_using",
    "fewshot",
    "main_job",
    "reid",
    "reporting",
    "searching",
    "tabular",
    "track_evaluating",
    "tracking_run",
    "tvae",
]
