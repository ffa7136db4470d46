import gzip
import os
from collections import Counter

import pytest

from tupelo.errors import DataError, InputError
from tupelo.fewshot import Vocabulary, read_texts, text_domains

needs_data = pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set")


def written(folder, name, file, text):
    (folder / name).mkdir()
    with gzip.open(folder / name / file, "wt") as out:
        out.write(text)


def test_intents_are_grouped_by_domain_without_what_is_out_of_scope(tmp_path):
    written(
        tmp_path,
        "clinc150",
        "clinc150_full.csv.gz",
        "split,domain,intent,text\ntrain,work,leave,take a day off\noos_val,oos,oos,hello\n"
        'test,home,light,lights out\nval,work,meet,"meet, then leave"\ntrain,home,light,?\n',
    )
    found = read_texts("clinc150", root=tmp_path)
    assert [(each.name, each.texts, each.labels) for each in found] == [
        ("work", ("take a day off", "meet, then leave"), ("leave", "meet")),
        ("home", ("lights out",), ("light",)),
    ]
    domains = text_domains(found, Vocabulary.of(found[0].texts), max_tokens=2)
    assert domains[0].class_names == ("leave", "meet")
    assert domains[0].items.shape == (2, 2)
    assert domains[1].items.tolist() == [[1, 1]]
    assert domains[1].identities.tolist() == [2]


def test_reviews_ask_three_questions_of_each_kind_of_goods(tmp_path):
    written(
        tmp_path,
        "amazon_multidomain",
        "amazon_reviews_4domains.csv.gz",
        "domain,sentiment,rating,asin,title,text\nbooks,n,1.0,0,bad,no\nbooks,n,2.0,0,meh,so\n"
        "books,p,5.0,0,fine,yes\n",
    )
    found = {each.name: each for each in read_texts("amazon_multidomain", root=tmp_path)}
    assert found["books/1"].labels == ("up to 1", "more", "more")
    assert found["books/2"].labels == ("up to 2", "up to 2", "more")
    assert found["books/4"].labels == ("up to 4", "up to 4", "more")
    assert found["books/1"].texts[0] == "bad no"


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"name must be one of clinc150.*got 'news'"):
        read_texts("news", root=tmp_path)
    with pytest.raises(
        DataError, match=r"banking77.csv.gz is missing; it is the table of banking77"
    ):
        read_texts("banking77", root=tmp_path)
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    with pytest.raises(
        DataError, match="no folder of data sets is known; pass root= or set TUPELO"
    ):
        read_texts("banking77")


@pytest.mark.parametrize(
    "damage",
    [b"not gzip", gzip.compress(b"intent,text\na,b\n", mtime=0)[:20]],
    ids=["no gzip", "cut short"],
)
def test_damaged_files_are_told(tmp_path, damage):
    (tmp_path / "banking77").mkdir()
    (tmp_path / "banking77" / "banking77.csv.gz").write_bytes(damage)
    with pytest.raises(DataError, match=r"cannot be read as banking77 .*restore it"):
        read_texts("banking77", root=tmp_path)


def test_missing_columns_are_told(tmp_path):
    written(tmp_path, "banking77", "banking77.csv.gz", "class,text\na,b\n")
    with pytest.raises(DataError, match=r"cannot be read as banking77 \(KeyError: 'intent'\)"):
        read_texts("banking77", root=tmp_path)


@pytest.mark.data
@needs_data
def test_the_shared_sets_have_their_counts():
    clinc = read_texts("clinc150")
    assert len(clinc) == 10
    assert all(set(Counter(each.labels).values()) == {150} for each in clinc)
    assert all(len(set(each.labels)) == 15 for each in clinc)
    (banking,) = read_texts("banking77")
    assert (len(banking.texts), len(set(banking.labels))) == (13_083, 77)
    reviews = read_texts("amazon_multidomain")
    assert len(reviews) == 12
    assert {len(each.texts) for each in reviews} == {2000}
    assert Counter(reviews[1].labels) == {"up to 2": 1000, "more": 1000}
