"""Faces: `tupelo faces ...`; `faces_evaluating` adds the published protocols."""

import typer

from tupelo.cli.app import app

faces = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Verify and identify faces, measured by published protocols.",
)
app.add_typer(faces, name="faces")
