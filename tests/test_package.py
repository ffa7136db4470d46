"""The package as a whole: public names, what importing loads, what the repository may hold."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest

import tupelo as tp

ROOT = Path(__file__).parents[1]


def test_all_is_exact_and_every_name_loads():
    assert sorted(tp.__all__) == sorted({*tp._MODULES, *tp._WHERE})
    for name in tp.__all__:
        assert getattr(tp, name) is not None, name
    assert set(tp.__all__) <= set(dir(tp))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'tupelo' has no attribute 'losess'"):
        tp.losess  # noqa: B018


@pytest.mark.parametrize("package", ["losses", "selection", "evaluation", "data", "models"])
def test_all_of_every_module_is_real(package):
    module = getattr(tp, package)
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"{package}.{name}"


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    return set(result.stdout.split())


HEAVY = {
    "bokeh",
    "faiss",
    "fastapi",
    "highspy",
    "lancedb",
    "matplotlib",
    "numba",
    "onnx",
    "onnxruntime",
    "pandas",
    "plotly",
    "tensorboard",
}


def test_importing_tupelo_loads_nothing_heavy():
    assert not _loaded_by("import tupelo") & (HEAVY | {"torch", "sklearn", "timm"})


def test_the_main_job_imports_no_optional_package():
    statement = "import tupelo as tp; tp.losses, tp.selection, tp.objectives, tp.data, tp.fit"
    # where they are installed, scikit-learn loads pandas, and Fabric torchmetrics with matplotlib
    assert not _loaded_by(statement) & (HEAVY - {"pandas", "matplotlib"})


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tp.__version__ == project["version"] == version("tupelo")


def _tracked() -> list[Path]:
    try:
        listing = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def test_no_machine_path_or_registry_host_is_tracked():
    patterns = (
        r"(?<![\w.])/(?:work|root|home|Users|opt)/[\w.]|file:///|index-url"
        r"|pypi\.org/simple|\+cu\d\d"
    )
    found = [
        f"{path.name}: {match.group()}"
        for path in _tracked()
        if path.is_file() and path != Path(__file__)
        for match in re.finditer(patterns, path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_constraints_pin_every_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        line.partition("==")[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    extras = chain.from_iterable(project["optional-dependencies"].values())
    declared = [*project["dependencies"], *extras]
    names = {re.split(r"[\[<>=]", each)[0].lower().replace("_", "-") for each in declared}
    assert names - {"tupelo"} <= pins


def test_every_page_of_the_docs_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    results = {page for page in pages if page.startswith("results/")}  # added by docs/hooks.py
    assert pages - results == set(re.findall(r"[\w/-]+\.md", nav))


def test_every_test_that_the_docs_name_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"
            source = (ROOT / path).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in source, f"{page.name}: {path}::{name}"
