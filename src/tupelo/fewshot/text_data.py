"""Known sets of texts with several domains, read from a folder of your own."""

import csv
import gzip
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from tupelo.errors import DataError, InputError
from tupelo.fewshot.domains import Domain
from tupelo.fewshot.text import Vocabulary, words

ROOT = "TUPELO_DATA"


@dataclass(frozen=True)
class TextDomain:
    """Texts of one domain with the names of their classes."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]


def read_texts(name: str, *, root: str | Path | None = None) -> list[TextDomain]:
    """Domains of a known set; texts without a word are left out.

    | name | domains | classes |
    |---|---|---|
    | clinc150 | 10 subjects; all splits, without what is out of scope | 15 intents each |
    | banking77 | 1 | 77 intents |
    | amazon_multidomain | 4 kinds of goods x 3 questions | 2: stars up to 1, 2 or 4, or more |

    The three questions of a kind of goods ("books/1") are those of Yu et al., "Diverse Few-Shot
    Text Classification with Multiple Metrics", NAACL 2018.

    Args:
        name: of the set, and of its folder.
        root: folder that holds it; default the environment's TUPELO_DATA.

    Raises:
        InputError: the name is not in the table.
        DataError: no root is known, or the file is missing or not what it should be.
    """
    if name not in _READERS:
        raise InputError(f"name must be one of {', '.join(_READERS)}, got {name!r}")
    place = root if root is not None else os.environ.get(ROOT)
    if place is None:
        raise DataError(f"no folder of data sets is known; pass root= or set {ROOT}")
    file, group = _READERS[name]
    path = Path(place) / name / file
    if not path.is_file():
        raise DataError(f"{path} is missing; it is the table of {name} as a compressed CSV file")
    found: dict[str, list[tuple[str, str]]] = {}
    try:
        for row in _rows(path):
            for domain, label, text in group(row):
                if words(text):
                    found.setdefault(domain, []).append((text, label))
    except (KeyError, ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as {name} ({type(error).__name__}: {error}); restore it"
        ) from error
    return [
        TextDomain(domain, *(tuple(column) for column in zip(*pairs, strict=True)))
        for domain, pairs in found.items()
    ]


def text_domains(
    texts: Sequence[TextDomain], vocabulary: Vocabulary, *, max_tokens: int | None = 128
) -> list[Domain]:
    """Domains of tokens, ready for `Tasks`.

    Args:
        texts: domains of texts.
        vocabulary: of the tokens.
        max_tokens: longer texts are cut.
    """
    found, first = [], 0
    for each in texts:
        names, labels = _numbered(each.labels)
        identities = np.arange(first, first + len(labels))
        tokens = vocabulary.encode(each.texts, max_tokens=max_tokens)
        found.append(Domain(each.name, tokens, labels, names, identities))
        first += len(labels)
    return found


def _numbered(labels: Sequence[str]) -> tuple[tuple[str, ...], Int64[np.ndarray, " n"]]:
    names, numbers = np.unique(np.array(labels), return_inverse=True)
    return tuple(names.tolist()), numbers.astype(np.int64)


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


Rows = Iterator[tuple[str, str, str]]
"""(domain, class, text)"""


def _clinc150(row: Mapping[str, str]) -> Rows:
    if row["domain"] != "oos":
        yield row["domain"], row["intent"], row["text"]


def _banking77(row: Mapping[str, str]) -> Rows:
    yield "banking77", row["intent"], row["text"]


def _amazon(row: Mapping[str, str]) -> Rows:
    text = f"{row['title']} {row['text']}"
    for stars in (1, 2, 4):
        label = "more" if float(row["rating"]) > stars else f"up to {stars}"
        yield f"{row['domain']}/{stars}", label, text


_READERS: dict[str, tuple[str, Callable[[Mapping[str, str]], Rows]]] = {
    "clinc150": ("clinc150_full.csv.gz", _clinc150),
    "banking77": ("banking77.csv.gz", _banking77),
    "amazon_multidomain": ("amazon_reviews_4domains.csv.gz", _amazon),
}
