"""The README as front page, all result pages in the list, and code in tables as it is meant."""

import re
from pathlib import Path


def on_config(config, **_):
    """List every page of docs/results under Results."""
    pages = sorted(Path(config.docs_dir, "results").glob("*.md"))
    for section in config.nav:
        if "Results" in section:
            section["Results"] = [f"results/{page.name}" for page in pages] or ["pains.md"]
    return config


def on_page_markdown(markdown, page, **_):
    """Put the README where index.md asks for it, without links to files that are not in docs/."""
    if page.file.src_uri == "index.md":
        readme = Path("README.md").read_text(encoding="utf-8").replace("](docs/", "](")
        markdown = re.sub(r"\[([^]]+)\]\([A-Z]+\.md\)", r"\1", readme)
    return re.sub(r"^\|.*", _unescaped, markdown, flags=re.MULTILINE)


def _unescaped(row):
    r"""Code in tables needs `\|` on code hosts, and here shows the backslash."""
    return re.sub(r"`[^`]+`", lambda code: code[0].replace(r"\|", "|"), row[0])
