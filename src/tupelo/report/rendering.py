"""From figures and words to one HTML file that asks nothing of the network."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tupelo.errors import MissingExtra
from tupelo.report.figures import Drawn, shortened


def check_extra() -> None:
    """What draws is installed.

    Raises:
        MissingExtra: bokeh or jinja2 is not.
    """
    try:
        import bokeh  # noqa: F401
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"drawing a report needs {error.name}: pip install 'tupelo[report]'"
        ) from error


def scripts(drawn: Sequence[Drawn]) -> tuple[str, dict[str, str]]:
    """The scripts of a page with these figures, and the place of each by its id."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    if not drawn:
        return "", {}
    script, divs = components({chart.figure.id: chart.figure for chart in drawn})
    library = Resources(mode="inline", components=["bokeh"], log_level="error").render_js()
    return f"{library}\n{script}", divs


def template(name: str) -> Any:
    """A template of this package, which escapes all it is given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tupelo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = shortened
    environment.filters["number"] = number
    environment.filters["breaking"] = _breaking
    return environment.get_template(name)


def number(value: object) -> str:
    """A cell of a table as text: four digits, whole numbers in full.

    >>> number(0.123456), number(12345), number("a"), number(float("nan"))
    ('0.1235', '12,345', 'a', 'nan')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def replace(path: Path, page: bytes) -> None:
    """Write the file in one step, so that a reader never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        unfinished.write_bytes(page)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _breaking(text: str) -> Any:
    """Names that break after an underscore or slash before they break within a word."""
    from markupsafe import Markup, escape

    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(text))))
