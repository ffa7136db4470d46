"""`tupelo faces train | verify | identify` as a user types it, on tiny generated people."""

import json
import shutil

import pytest

from tupelo.cli.faces_using import _values

from .conftest import QUICK, said, tupelo


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "faces"
    parts = ("--validation", "0.4", "--test", "0.25")
    return out, tupelo("faces", "train", photos, "--out", out, *QUICK, *parts)


def test_train_says_what_the_thresholds_are(run):
    out, result = run
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "angular" in text
    assert "thresholds set on people of validation" in text
    assert "genuine and" in text
    stated = json.loads((out / "verification.json").read_text())
    assert stated["settings"][0]["far"] == 0.1
    assert "scale: 30.0" in (out / "recipe.yaml").read_text()


def test_train_repeated_says_the_same(run, photos):
    out, _ = run
    before = (out / "verification.json").read_bytes()
    again = tupelo("faces", "train", photos, "--out", out, "--recipe", out / "recipe.yaml")
    assert again.exit_code == 0, again.output
    assert "thresholds set on people of validation" in said(again)
    assert (out / "verification.json").read_bytes() == before


def test_a_variant_takes_the_place_of_the_loss_of_a_file(run):
    values = _values("softmax", run[0] / "recipe.yaml", "people", {"lr": 0.1})
    assert values["loss_options"] == {"weight": 0.0}
    assert values["lr"] == 0.1
    values = _values("cosface", run[0] / "recipe.yaml", "people", {"loss_options": ["margin=0.2"]})
    assert values["loss"] == "cosface"
    assert values["loss_options"] == {"scale": 30.0, "margin": 0.2}
    kept = _values(None, run[0] / "recipe.yaml", "people", {})
    assert (kept["loss"], kept["loss_options"]) == ("angular", {"scale": 30.0})


def test_thresholds_are_set_anew_where_asked_or_damaged_and_bad_pictures_do_not_matter(
    photos, tmp_path
):
    damaged = shutil.copytree(photos, tmp_path / "photos")
    (damaged / "class0" / "bad.png").write_text("no picture")
    parts = ("--validation", "0.4", "--test", "0.25", "--allow-bad", "0.2")
    out = tmp_path / "run"
    first = tupelo("faces", "train", damaged, "--out", out, *QUICK, *parts)
    assert first.exit_code == 0, first.output
    stated = out / "verification.json"
    assert json.loads(stated.read_text())["flip"]
    again = ("faces", "train", damaged, "--out", out, "--recipe", out / "recipe.yaml")
    assert tupelo(*again, "--no-flip").exit_code == 0
    assert not json.loads(stated.read_text())["flip"]
    before = stated.read_bytes()
    stated.write_text("{")
    assert tupelo(*again, "--no-flip").exit_code == 0
    assert stated.read_bytes() == before


def test_verify_ends_with_its_answer(run, photos):
    out, _ = run
    one, other = photos / "class0" / "0.png", photos / "class7" / "0.png"
    same = tupelo("faces", "verify", out, one, one)
    assert same.exit_code == 0, same.output
    assert "the same person" in said(same)
    assert "set at a false-accept rate of" in said(same)
    found = tupelo("faces", "verify", out, one, other, "--json")
    stated = json.loads(found.stdout)
    assert found.exit_code == (0 if stated["same"] else 1)
    assert stated["same"] == (stated["similarity"] > stated["setting"]["threshold"])


def test_identify_names_people_of_the_gallery(run, photos, tmp_path):
    out, _ = run
    probe = tmp_path / "probe.png"
    shutil.copy(photos / "class3" / "0.png", probe)
    result = tupelo("faces", "identify", out, probe, "--gallery", photos, "-k", "2")
    assert result.exit_code == 0, result.output
    assert "class3" in said(result)
    assert "a stranger is compared with 8 people here" in said(result)
    found = tupelo("faces", "identify", out, probe, "--gallery", photos, "--json")
    stated = json.loads(found.stdout)
    assert stated["probes"][0]["matches"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert stated["people"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "sphere"], "--variant must be one of softmax"),
        (["--variant", "basic", "--loss", "triplet"], "give one of the two"),
        (["--validation", "0"], "--validation must be above 0"),
        (["--split", "items"], "thresholds need people who do not train; give --split classes"),
    ],
)
def test_train_refuses(photos, tmp_path, arguments, message):
    result = tupelo("faces", "train", photos, "--out", tmp_path / "run", *QUICK, *arguments)
    assert result.exit_code == 2
    assert message in said(result)
    assert not (tmp_path / "run").exists()


def test_verify_needs_a_run_with_thresholds(trained, photos):
    one = photos / "class0" / "0.png"
    result = tupelo("faces", "verify", trained[0], one, one)
    assert result.exit_code == 2
    assert "has no verification.json: the run was not made by tupelo faces train" in said(result)
