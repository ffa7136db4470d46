"""Deep metric learning: train an embedding from your own labels, measure it honestly, use it.

Names are loaded when they are first used (PEP 562), so that `import tupelo` is quick.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "Comparison": "tupelo.comparison",
    "Embedded": "tupelo.types",
    "Settings": "tupelo.training",
    "Tuples": "tupelo.types",
    "TupeloError": "tupelo.errors",
    "embed": "tupelo.inference",
    "evaluate": "tupelo.inference",
    "fit": "tupelo.training",
    "load": "tupelo.trained",
}
_MODULES = (
    "data",
    "ensembles",
    "errors",
    "evaluation",
    "export",
    "fewshot",
    "generative",
    "losses",
    "models",
    "objectives",
    "report",
    "search",
    "selection",
    "synthesis",
    "tabular",
    "tracking",
)

__all__ = [
    "Comparison",
    "Embedded",
    "Settings",
    "TupeloError",
    "Tuples",
    "data",
    "embed",
    "ensembles",
    "errors",
    "evaluate",
    "evaluation",
    "export",
    "fewshot",
    "fit",
    "generative",
    "load",
    "losses",
    "models",
    "objectives",
    "report",
    "search",
    "selection",
    "synthesis",
    "tabular",
    "tracking",
]

if TYPE_CHECKING:
    from tupelo import (
        data,
        ensembles,
        errors,
        evaluation,
        export,
        fewshot,
        generative,
        losses,
        models,
        objectives,
        report,
        search,
        selection,
        synthesis,
        tabular,
        tracking,
    )
    from tupelo.comparison import Comparison
    from tupelo.errors import TupeloError
    from tupelo.inference import embed, evaluate
    from tupelo.trained import load
    from tupelo.training import Settings, fit
    from tupelo.types import Embedded, Tuples


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"tupelo.{name}")
    if name in _WHERE:
        found = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'tupelo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
