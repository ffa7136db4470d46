"""`tupelo export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tupelo.cli.app import Debug, RunFolder, app, told

if TYPE_CHECKING:
    from tupelo.cli.screen import Screen
    from tupelo.export import Exported


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "tupelo export runs/photos\n\n"
    "tupelo export runs/photos --fp16 --out photos.onnx"
)
def export(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="ends in .onnx \\[RUN/model.onnx, or RUN/model-fp16.onnx]",
            show_default=False,
        ),
    ] = None,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="weights in half precision: half the size")
    ] = False,
    opset: Annotated[int, typer.Option(metavar="N", help="version of ONNX's operators")] = 18,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="do not compare with torch, which needs onnxruntime")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write the model as one ONNX file, from pixels to unit rows, checked against torch.

    The file says how pictures are prepared for it, and is used without this package.
    """
    with told(debug) as screen:
        from tupelo.export import onnx
        from tupelo.trained import load

        path = out or run / ("model-fp16.onnx" if fp16 else "model.onnx")
        trained = load(run)
        _tell(screen, onnx(trained, path, half=fp16, opset=opset, check=not no_check))


def _tell(screen: "Screen", exported: "Exported") -> None:
    size = f"{exported.size / 1e6:,.1f} MB, {exported.metadata['precision']}"
    screen.line(f"[bold]{escape(str(exported.path))}[/bold]: {size}")
    if exported.agreement is None:
        screen.line("[yellow]not checked[/yellow] against torch")
    else:
        screen.line(f"checked against torch: {exported.agreement}")
    screen.line(f"input   pictures   uint8 {exported.shapes[0]}, pixels as Pillow gives them")
    screen.line(f"output  embedding  float32 {exported.shapes[1]}, unit rows")
    screen.line("its metadata say how pictures are prepared; docs: Export")
