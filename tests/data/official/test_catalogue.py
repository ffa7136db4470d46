import re

import pytest

from tupelo.data.official import BY_NAME
from tupelo.data.official.catalogue import CATALOGUE, entry
from tupelo.errors import InputError

# Golden values: the tables of the specifications. Pictures, classes.
SPECIFIED = {
    "cub200": {"train": (5_864, 100), "test": (5_924, 100)},
    "cars196": {"train": (8_054, 98), "test": (8_131, 98)},
    "sop": {"train": (59_551, 11_318), "test": (60_502, 11_316)},
    "inshop": {"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)},
    "vehicleid": {
        "train": (110_178, 13_134),
        "small": (None, 800),
        "medium": (None, 1_600),
        "large": (None, 2_400),
    },
    "omniglot": {"train": (964 * 20, 964), "test": (659 * 20, 659)},
    "miniimagenet": {
        "train": (64 * 600, 64),
        "validation": (16 * 600, 16),
        "test": (20 * 600, 20),
    },
    "lfw": {"all": (13_233, 5_749)},
    "mnist": {"train": (60_000, 10), "test": (10_000, 10)},
    "fashion_mnist": {"train": (60_000, 10), "test": (10_000, 10)},
}


@pytest.mark.parametrize("name", SPECIFIED)
def test_counts_are_those_of_the_specifications(name):
    counts = entry(name).counts
    found = {part: (count.pictures, count.classes) for part, count in counts.items()}
    assert found == SPECIFIED[name]


def test_market_counts_all_files_of_its_test_folder():
    counts = entry("market1501").counts
    assert (counts["train"].pictures, counts["train"].classes) == (12_936, 751)
    assert (counts["query"].pictures, counts["query"].classes) == (3_368, 750)
    assert counts["gallery"].pictures + counts["junk"].pictures == 19_732
    assert counts["gallery"].classes == 750 + 1, "the people, and the distractors"


@pytest.mark.parametrize("known", CATALOGUE.values(), ids=list(CATALOGUE))
def test_entries_are_whole(known):
    for text in (known.title, known.what, known.protocol, known.measured, known.terms, known.tree):
        assert text.strip()
    assert known.counts or known.compact
    assert (known.name in BY_NAME) == bool(known.counts)
    assert len({archive.name for archive in known.archives}) == len(known.archives)
    for archive in known.archives:
        assert re.fullmatch(r"|[0-9a-f]{32}", archive.md5)
        assert re.fullmatch(r"|[0-9a-f]{64}", archive.sha256)
        if archive.url:
            assert archive.url.startswith("http")
            assert archive.md5 or archive.sha256, "what is fetched is compared"


def test_what_is_downloadable():
    assert [name for name, known in CATALOGUE.items() if known.downloadable] == [
        "cub200", "sop", "omniglot", "lfw", "mnist", "fashion_mnist",
    ]  # fmt: skip


def test_unknown_name():
    with pytest.raises(InputError, match=r"name must be one of cub200, .* got 'imagenet'"):
        entry("imagenet")
