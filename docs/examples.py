"""Examples of docstrings as code on the site: Markdown takes their `>>>` for quotations."""

from itertools import groupby

from griffe import Extension, Object


class Examples(Extension):
    """Puts fences around all examples."""

    def on_object(self, *, obj: Object, **_) -> None:
        """Change the text of one docstring, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """What stands between the first `>>>` of a paragraph and its end becomes code.

    >>> fenced("Example:\\n    >>> 2 * 2\\n    4").splitlines()
    ['Example:', '    ```pycon', '    >>> 2 * 2', '    4', '    ```']
    """
    lines = []
    for _, group in groupby(text.split("\n"), lambda line: not line.strip()):
        paragraph = list(group)
        first = next((i for i, line in enumerate(paragraph) if _begins(line)), None)
        if first is not None:
            margin = paragraph[first].partition(">")[0]
            paragraph = [
                *paragraph[:first],
                f"{margin}```pycon",
                *paragraph[first:],
                f"{margin}```",
            ]
        lines += paragraph
    return "\n".join(lines)


def _begins(line: str) -> bool:
    return line.lstrip().startswith(">>>")
