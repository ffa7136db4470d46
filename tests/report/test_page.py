"""The page as a whole: what it says, what it asks of the network, how large it is."""

import builtins
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tupelo import models, report, sections
from tupelo.data import ImageSet
from tupelo.errors import InputError, MissingExtra
from tupelo.objectives import OnClasses
from tupelo.report import page as pages
from tupelo.report.reading import read
from tupelo.report.searched import search
from tupelo.report.summary import summarise

ROOT = Path(__file__).parents[2]
HOSTILE = [
    '</script><script>alert("a")</script>',
    "<img src=x onerror=alert(1)> & \"quotes\" 'and'",
    "\u202eשלום عربى\u200f",  # noqa: RUF001
    "long " * 60,
    "{{ 7 * 7 }} $$x$$ @picture {safe}",
]


@pytest.fixture(scope="module")
def finished(make_run, tmp_path_factory):
    """A run that no test changes."""
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def written(finished, pictures, vague, opened):
    return opened(report.write(finished, pictures, vague))


@pytest.fixture
def without_curves(run):
    """Figures take most of the time of a page."""
    (run / "metrics.csv").unlink()


def test_the_page_says_what_the_run_came_to(written, finished, pictures, vague):
    text = written.text
    assert "<title>my run · Tupelo report</title>" in written.html
    assert (
        "convnet with 8 dimensions, from random weights, trained with the margin loss (positives: "
        "easiest) on 100 pictures of 7 classes; measured on 24 test pictures of 4 classes, none "
        "of which trained." in text
    )
    assert "training 1 min 23 s steps 50 seed 3 begun 2026-01-02 03:04 UTC" in text
    assert "MAP@R 0.4321 before 0.1000 +0.3321" in text
    assert "Recall@1 0.7500 before 0.8000 -0.0500" in text
    assert "NMI 0.6000 ± 0.0123 0.6000 ± 0.0123 +0.0000" in text
    assert "24 pictures searched each other." in text
    assert "The dashed line marks step 40" in text
    assert "Left out: 2 truncated, 1 no picture." in text
    assert "No picture was left out" not in text
    command = f"tupelo train photos --recipe '{finished}/recipe.yaml' --out '{finished}-again'"
    assert command in text
    assert "positives: easiest seed: 3" in text
    assert "torch 2.6" in text
    assert "All 24 pictures, placed by t-SNE (started from PCA, seed 3)" in text
    wrong = int(search(pictures, vague).wrong_first.sum())
    assert f"Of the {wrong} queries whose nearest neighbour is wrong" in text
    assert not written.having(id="missing")


def test_marks_of_the_gallery_are_those_of_brute_force(written, pictures, vague):
    z = vague.z.numpy().astype(np.float64)
    shown = [tag for tag in written.tags if tag[0] == "li"]
    shown = [
        attributes for _, attributes in shown if (attributes.get("class") or "").startswith("pic")
    ]
    queries = [tag for _, tag in written.tags if tag.get("class") == "pic" and "title" in tag]
    assert len(shown) == 6 * len(queries)
    rows = {path: row for row, path in enumerate(pictures.paths)}
    for place, query in enumerate(queries):
        row = rows[query["title"]]
        order = [other for other in np.argsort(-(z @ z[row])) if other != row][:6]
        for neighbour, attributes in zip(order, shown[6 * place :], strict=False):
            assert attributes["title"] == pictures.paths[neighbour]
            right = pictures.labels[neighbour] == pictures.labels[row]
            assert attributes["class"] == ("pic right" if right else "pic wrong")
    text = written.text[written.text.index("As they come") : written.text.index("Confusions P")]
    assert text.count("✓") == written.html.count('class="pic right"')
    assert text.count("✗") == sum(tag["class"] == "pic wrong" for tag in shown)


def test_nothing_is_asked_of_the_network(written):
    for tag, attributes in written.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    styles = "".join(re.findall(r"<style>(.*?)</style>", written.html, re.S))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = written.having(http_equiv="Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data: blob:;")
    assert "http" not in policy["content"]
    assert {tag for tag, _ in written.tags}.isdisjoint({"link", "iframe", "object", "embed"})


def test_pictures_have_words_and_figures_a_description(written):
    for tag, attributes in written.tags:
        assert tag != "img" or attributes.get("alt"), attributes
    figures = written.having(role="img")
    assert len(figures) == 7
    assert all(figure["aria-label"] for figure in figures)


def test_hostile_names_stay_text(run, opened, around_classes, embedded):
    labels = np.repeat(HOSTILE, 4)
    pixels = np.zeros((20, 8, 8), np.uint8)
    pictures = ImageSet.from_arrays(pixels, labels, paths=[f"{name}/p" for name in labels])
    section = sections.Section(
        HOSTILE[0],
        HOSTILE[1],
        [
            sections.Bars(HOSTILE, [1.0] * 5, HOSTILE[0]),
            sections.Table(HOSTILE, [HOSTILE]),
            sections.Points([0.0, 1.0], [0.0, 1.0], HOSTILE[:2], HOSTILE[:2]),
            sections.Curves([HOSTILE[0]], HOSTILE[0]),
            sections.Pictures.of([[pixels[0]]], [[HOSTILE[1]]], [HOSTILE[0]]),
        ],
    )
    (run / "sections.json").write_text(json.dumps(sections.to_json([section])))
    (run / "bad_items.csv").write_text(f'path,reason\n"x","{HOSTILE[0].replace(chr(34), "")}"\n')
    z = embedded(pictures, around_classes(pictures.labels, 1.0))
    page = opened(report.write(run, pictures, z))
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 4  # Bokeh, how much it says, the figures, the buttons
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert not page.having(src="x")
    assert "49" not in page.text.split()
    for name in HOSTILE[:3]:
        assert " ".join(name.split()) in page.text
    assert max(map(len, (attributes.get("title") or "" for _, attributes in page.tags))) <= 300


def test_a_run_from_python_shows_what_is_there(tmp_path, opened, pictures, vague):
    (tmp_path / "metrics.csv").write_text("step,epoch,loss\n1,0,0.5\n2,0,nan\n")
    page = opened(report.write(tmp_path))
    assert "There is no recipe.yaml: the run was made from Python" in page.text
    assert "There is no results.json" in page.text
    assert (
        "No pictures were given, so neighbours, confusions and the map are left out." in page.text
    )
    assert page.having(id="training")
    assert not page.having(id="scores")
    page = opened(report.write(tmp_path, pictures, vague, part="train"))
    whole = search(pictures, vague).scores
    assert f"{whole['map@r']:.4f} after training" in page.text
    assert "none of which trained" not in page.text
    assert "These pictures trained the network" in page.text


@pytest.mark.usefixtures("without_curves")
def test_another_part_than_the_measured_one_is_measured(run, opened, pictures, vague):
    page = opened(report.write(run, pictures, vague, part="validation"))
    assert f"{search(pictures, vague).scores['map@r']:.4f} after training" in page.text
    assert "0.4321" not in page.text
    assert "on which the best weights were chosen" in page.text


@pytest.mark.usefixtures("without_curves")
def test_training_pictures_of_a_recipe_are_not_called_new(run, opened, pictures, vague):
    page = opened(report.write(run, pictures, vague, part="train"))
    assert "measured on 100 training pictures of 7 classes." in page.text
    assert "none of which trained" not in page.text
    assert "These pictures trained the network" in page.text


@pytest.mark.usefixtures("without_curves")
def test_tags_are_called_tags(run, opened):
    results = json.loads((run / "results.json").read_text())
    results["data"] |= {"tagged": True, "shared_classes": True}
    (run / "results.json").write_text(json.dumps(results))
    page = opened(report.write(run))
    assert "on 100 pictures with 7 tags; measured on 24 test pictures with 4 tags." in page.text
    assert "The test tags also trained" in page.text


@pytest.mark.usefixtures("without_curves")
def test_other_pictures_than_those_measured_are_told(run, opened, pictures, vague, embedded):
    fewer = pictures.subset(range(20))
    page = opened(report.write(run, fewer, embedded(fewer, vague.z.numpy()[:20])))
    assert "pictures read now are 20, those measured at the end of training were 24" in page.text


@pytest.mark.usefixtures("without_curves")
def test_warnings_stand_in_front(run, opened):
    results = json.loads((run / "results.json").read_text())
    results["data"]["shared_classes"] = True
    results["after"]["collapsed"] = True
    (run / "results.json").write_text(json.dumps(results))
    page = opened(report.write(run))
    assert "The embedding has collapsed" in page.text
    assert "The test classes also trained" in page.text
    assert "none of which trained" not in page.text


@pytest.mark.usefixtures("without_curves")
def test_a_collapsed_embedding_has_no_map(run, opened, pictures, embedded):
    page = opened(report.write(run, pictures, embedded(pictures, np.ones((24, 4)))))
    assert "There is nothing to draw: all embeddings lie at one point." in page.text


@pytest.mark.usefixtures("without_curves")
def test_a_single_class_and_one_picture_a_class(run, opened, grey, embedded):
    rows = np.random.default_rng(0).normal(size=(12, 4))
    one = grey(np.array(["only"] * 12))
    page = opened(report.write(run, one, embedded(one, rows)))
    assert "There is none: every query has a right nearest neighbour." in page.text
    each = grey(np.array([f"c{n}" for n in range(12)]))
    page = opened(report.write(run, each, embedded(each, rows)))
    assert "there is one picture of every class" in page.text
    assert "none can be confused" in page.text


@pytest.mark.usefixtures("without_curves")
def test_tags_have_no_confusions(run, opened, grey, embedded):
    tags = grey([{"red", "big"}, {"red"}, {"big"}, {"blue"}] * 3)
    page = opened(report.write(run, tags, embedded(tags, np.random.rand(12, 4))))  # noqa: NPY002
    assert "Pictures bear several tags" in page.text
    assert "big|red" in page.text
    assert "coloured by their first tag" in page.text


@pytest.mark.usefixtures("without_curves")
def test_many_classes_are_found_by_a_list(run, opened, grey, embedded, around_classes):
    many = grey(np.repeat([f"class {n:03}" for n in range(90)], 2))
    z = embedded(many, around_classes(many.labels, 0.5))
    page = opened(report.write(run, many, z))
    assert len(page.having(data_highlight="map-")) == 1
    assert len([tag for tag, _ in page.tags if tag == "option"]) == 91
    assert "Colours and signs repeat" in page.text


def test_sections_of_every_kind_are_shown(run, opened):
    pixels = np.zeros((6, 6), np.uint8)
    all_kinds = [
        sections.Curves(["active", "absent"], "share"),
        sections.Bars(["first", "second"], [1.0, 2.5], "metres"),
        sections.Bars([str(n) for n in range(200)], [float(n) for n in range(200)], "kg"),
        sections.Points([0.0, 1.0], [1.0, 0.0], ["real", "made"]),
        sections.Table(["who", "how many"], [["a", 3]]),
        sections.Pictures.of([[pixels]], [["dark"]], ["row"]),
    ]
    given = [sections.Section("All kinds", "How to read it.", all_kinds)]
    (run / "sections.json").write_text(json.dumps(sections.to_json(given)))
    page = opened(report.write(run))
    assert "All kinds How to read it." in page.text
    assert "Not in metrics.csv, so not shown: absent." in page.text
    assert "first 1 second 2.5 metres" in page.text
    assert "lowest highest 0 0 199 199" in page.text
    assert "who how many a 3" in page.text
    assert "row dark" in page.text
    assert len(page.having(role="img")) == 6 + 3


def test_the_page_names_the_synthesis(run, without_curves, opened):
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "\nsynthesis: hdml\n")
    page = opened(report.write(run))
    assert "easiest) and synthetic negatives (HDML) on 100 pictures" in page.text


@pytest.mark.parametrize("name", ["recipe.yaml", "results.json", "metrics.csv", "sections.json"])
def test_a_damaged_file_is_left_out_and_named(run, opened, name, pictures, vague):
    (run / name).write_bytes(b"\xff{[:\n\n\x00")
    page = opened(report.write(run, pictures, vague))
    assert name in page.text[page.text.index("What is not here") : page.text.index("Neighbours A")]


def noise(n: int, side: int, n_classes: int) -> ImageSet:
    """Pictures that compress as badly as any."""
    pixels = np.random.default_rng(0).integers(256, size=(n, side, side, 3), dtype=np.uint8)
    labels = [f"a class of a rather long name {row % n_classes:05}" for row in range(n)]
    return ImageSet.from_arrays(pixels, labels)


@pytest.mark.slow
def test_a_page_that_is_too_large_gets_smaller_pictures(run, monkeypatch, embedded, opened):
    pictures = noise(80, 64, 20)
    monkeypatch.setattr(pages.embedding_map, "LEAST_FOR_TSNE", 10_000)  # slow, and not asked here
    z = embedded(pictures, np.random.default_rng(0).normal(size=(80, 8)))
    large = report.write(run, pictures, z, out=run / "a.html")
    assert opened(large).html.count("data:image/") > 80
    for limit in (large.stat().st_size - 1, 1_500_000):
        monkeypatch.setattr(pages, "BYTES_AT_MOST", limit)
        smaller = report.write(run, pictures, z, out=run / "b.html")
        assert smaller.stat().st_size <= limit
    assert "no picture" in opened(smaller).text
    assert "pictures would make this page too large" in opened(smaller).text


@pytest.mark.slow
@pytest.mark.parametrize(("n", "side", "classes"), [(60_000, 28, 10_000), (3_000, 224, 100)])
def test_the_largest_pages_stay_below_ten_megabytes(run, embedded, n, side, classes):
    pictures = noise(n, side, classes)
    z = embedded(pictures, np.random.default_rng(0).normal(size=(n, 64)))
    assert report.write(run, pictures, z).stat().st_size < 10_000_000


@pytest.mark.usefixtures("without_curves")
def test_the_file_is_replaced_in_one_step(run, monkeypatch):
    path = report.write(run)
    assert path == run / "report.html"
    before = path.read_bytes()
    monkeypatch.setattr(pages, "_render", lambda *arguments: b"new")
    monkeypatch.setattr(pages.Path, "replace", lambda self, to: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):  # noqa: PT011
        report.write(run)
    assert path.read_bytes() == before
    assert [each.name for each in run.iterdir() if "writing" in each.name] == []


def test_what_cannot_be_drawn_is_refused(tmp_path, run, pictures, monkeypatch):
    with pytest.raises(InputError, match=r"holds no run: none of recipe\.yaml, results\.json"):
        report.write(tmp_path / "nowhere")
    with pytest.raises(InputError, match="pictures and embedded must be given together"):
        report.write(run, pictures)
    whole = builtins.__import__

    def without(name, *more):
        if name == "bokeh":
            raise ImportError("no bokeh", name="bokeh")
        return whole(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"needs bokeh: pip install 'tupelo\[report\]'"):
        report.write(run)


@pytest.mark.usefixtures("without_curves")
def test_the_page_of_a_run_is_the_same_each_time(run, pictures, vague, tmp_path):
    pages_ = [
        report.write(run, pictures, vague, out=tmp_path / name).read_text() for name in ("a", "b")
    ]
    plain = [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|p\d{4,}", "", page) for page in pages_]
    assert len(plain[0]) == len(plain[1])


def test_the_example_of_the_docs_adds_a_section(run, opened):
    text = (ROOT / "docs/howto/report.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    names: dict[str, Any] = {}
    exec(example, names)
    objective = OnClasses(names["Centres"](4, 16))
    model = models.embedder("convnet", dim=16, channels=1, size=16)
    images, labels = torch.zeros(4, 1, 16, 16), torch.arange(4)
    assert objective(model(images), labels).total.isfinite()
    shown = sections.Shown(images, labels, names_of := ["ant", "bee", "cat", "dog"], names_of)
    found = sections.ask([model, objective], model, shown)
    (run / "sections.json").write_text(json.dumps(sections.to_json(found)))
    page = opened(report.write(run))
    assert "Centres How long each centre has become" in page.text
    assert "ant" in page.text


@pytest.mark.usefixtures("without_curves")
def test_before_and_after_may_lack_scores(run, opened):
    results = json.loads((run / "results.json").read_text())
    results["after"] = {"map@r": 0.5}
    results["before"] = {"nmi": math.nan}
    (run / "results.json").write_text(json.dumps(results))
    assert "0.5000 after training" in opened(report.write(run)).text


@pytest.mark.parametrize(
    ("options", "said"),
    [("", "each trained to classify its meta-classes on 100"), ("learns: recipe", "margin loss (")],
)
def test_what_members_learn_is_what_is_said(run, options, said):
    with (run / "recipe.yaml").open("a") as recipe:
        recipe.write(f"\nensemble: dreml\nlearners: 4\nensemble_options: {{{options}}}\n")
    sentence = summarise(read(run), None).sentence
    assert "of 4 networks on random meta-classes (DREML)" in sentence
    assert said in sentence
