"""The README is the front page: its links start at the repository, the site's at docs/."""


def on_page_markdown(markdown: str, page, **_) -> str:
    """Put the README where index.md asks for it and make its links relative to docs/."""
    if page.file.src_uri != "index.md":
        return markdown
    with open("README.md", encoding="utf-8") as readme:  # noqa: PTH123
        return readme.read().replace("](docs/", "](")
