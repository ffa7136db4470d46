"""Two things the site takes from elsewhere: the README as its front page, and all result pages."""

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
    if page.file.src_uri != "index.md":
        return markdown
    readme = Path("README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\[([^]]+)\]\([A-Z]+\.md\)", r"\1", readme)
