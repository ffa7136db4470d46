"""Members as jobs: equal whoever trains them, resumed, retried, added later."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import tupelo
from tupelo.data import ImageData, ImageSet
from tupelo.ensembles import meta_classes
from tupelo.errors import InputError, TrainingDiverged, TupeloError
from tupelo.recipes import building, engines, members
from tupelo.recipes.member import Job, MemberOptions, Seeds, locked, member_recipe, meta_labelled
from tupelo.recipes.members import PUBLISHED, train_members
from tupelo.recipes.recipe import RetrievalRecipe

OPTIONS = MemberOptions(meta_classes=3, batch=16)
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs Ray: pip install 'tupelo[ray]'")
ray_warns = pytest.mark.filterwarnings("ignore")  # of Ray and of sockets it leaves behind


def drawn(n_classes=6, each=8):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), each)
    looks = rng.integers(256, size=(n_classes, 16, 16))[labels]
    pixels = np.clip(looks + rng.integers(-40, 40, size=looks.shape), 0, 255)
    return ImageData(ImageSet.from_arrays(pixels.astype(np.uint8), labels), None, None, ())


def recipe_for(data, **options):
    usual = {"size": 16, "epochs": 1, "augment": "none", "checkpoint_every": 1, **PUBLISHED}
    options = usual | options
    return building.resolve(RetrievalRecipe(source="known:none", **options), data.train)


def trained(out, learners=2, data=None, options=OPTIONS, recipe=None, **more):
    data = data or drawn()
    recipe = recipe or recipe_for(data)
    more = {"threads": 1, **more}
    return train_members(recipe, data, out, learners=learners, options=options, **more)


def digests(result):
    return [record.sha256 for record in result.records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole"), learners=3)


def test_a_run_loads_as_one_model_and_says_how_classes_were_merged(whole):
    opened = tupelo.load(whole.folder)
    assert opened.model.dim == 9
    about = json.loads((whole.folder / "model" / "model.json").read_text())["about"]
    assert about["members"]["bags"] == meta_classes(6, 3, 3, seed=0).T.tolist()
    lines = (whole.folder / "members" / "bags.csv").read_text().splitlines()
    assert lines[0] == "class,member000,member001,member002"
    assert [int(line.split(",")[1]) for line in lines[1:]] == whole.bags[:, 0].tolist()
    (section,) = json.loads((whole.folder / "sections.json").read_text())
    assert [row[0] for row in section["parts"][0]["rows"]] == ["000", "001", "002"]


def test_every_purpose_of_every_member_has_its_own_seed():
    seeds = [seed for number in range(20) for seed in Seeds.of(0, number)]
    assert len(set(seeds)) == len(seeds)


def test_members_differ(whole):
    assert len(set(digests(whole))) == 3


def test_what_is_done_is_not_done_again(whole, monkeypatch):
    monkeypatch.setattr(members, "train_member", None)
    assert digests(trained(whole.folder, learners=3)) == digests(whole)
    logged = recipe_for(drawn(), log_every=1, workers=1)
    assert digests(trained(whole.folder, learners=3, recipe=logged)) == digests(whole)


def test_members_are_added_later_and_left_out(whole, tmp_path):
    first = trained(tmp_path, learners=1)
    more = trained(tmp_path, learners=3)
    assert digests(more) == digests(whole)
    assert digests(first) == digests(whole)[:1]
    assert more.model.dim == 9
    assert trained(tmp_path, learners=2).model.dim == 6
    plan = json.loads((tmp_path / "members" / "plan.json").read_text())
    assert len(plan["bags"]) == 3  # the third is still known


def test_a_damaged_member_is_made_again_and_the_others_are_kept(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "run")
    weights = tmp_path / "run" / "members" / "001" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    kept = (tmp_path / "run" / "members" / "000" / "done.json").stat().st_mtime_ns
    assert digests(trained(tmp_path / "run", learners=3)) == digests(whole)
    assert (tmp_path / "run" / "members" / "000" / "done.json").stat().st_mtime_ns == kept


def test_a_damaged_model_is_joined_again(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "run")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    trained(tmp_path / "run", learners=3)
    assert weights.read_bytes() == content


def test_two_runs_in_one_folder_take_turns(whole, monkeypatch, caplog):
    """One of them writes the plan or the model while the other waits."""
    held, released = threading.Event(), threading.Event()

    def hold():
        with locked(whole.folder / "members"):
            held.set()
            released.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    threading.Timer(0.3, released.set).start()
    assert digests(trained(whole.folder, learners=3)) == digests(whole)
    holder.join()
    assert "another process works in" in caplog.text


def test_merges_are_written_as_a_table_whatever_classes_are_called(tmp_path):
    names = ['a "b"', "c,d", "é\nf"]
    train = ImageSet.from_arrays(np.zeros((6, 16, 16), np.uint8), [n for n in names for _ in "ab"])
    result = trained(tmp_path, 1, ImageData(train, None, None, ()))
    with (tmp_path / "members" / "bags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "member000"]
    assert rows[1:] == [
        [n, str(b)] for n, b in zip(train.class_names, result.bags[:, 0], strict=True)
    ]


def test_an_interrupted_member_goes_on_to_the_same_bits(whole, tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.member == 1 and progress.training.batch == 2:
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path, learners=3, progress=stop)
    assert (tmp_path / "members" / "000" / "done.json").exists()
    assert not (tmp_path / "members" / "001" / "done.json").exists()
    assert digests(trained(tmp_path, learners=3)) == digests(whole)


def test_longer_runs_go_on(tmp_path):
    data = drawn()
    trained(tmp_path, learners=1)
    longer = trained(tmp_path, learners=1, recipe=recipe_for(data, epochs=2))
    assert longer.records[0].epochs == 2


def test_at_most_so_many_pictures_of_a_class():
    data = drawn()
    column = np.array([0, 1, 2, 0, 1, 2])
    few = meta_labelled(data.train, column, 3, seed=0)
    other = meta_labelled(data.train, column, 3, seed=1)
    assert np.bincount(few.items // 8).tolist() == [3] * 6
    assert few.labels.tolist() == column[few.items // 8].tolist()
    assert few.items.tolist() != other.items.tolist()
    assert len(meta_labelled(data.train, column, None, seed=0)) == 48


def test_any_objective_may_learn_the_meta_classes(tmp_path):
    data = drawn()
    options = MemberOptions(meta_classes=3, learns="recipe", width=5)
    recipe = recipe_for(data, loss="multi-similarity")
    assert trained(tmp_path, 1, data, options, recipe).model.learners.widths == (5,)
    other = recipe_for(data, loss="multi-similarity", normalize=False)
    with pytest.raises(InputError, match=r"another run: normalize was True, is False\."):
        trained(tmp_path, 1, data, options, other)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"classes": 6, "per_class": 4}, (3, 8)),
        ({"loss": "triplet", "batches": "triplets", "classes": 6}, (2, 2)),
        ({"loss": "contrastive", "batches": "pairs", "classes": 32}, (32, 2)),
    ],
)
def test_batches_are_of_meta_classes(asked, expected):
    data, options = drawn(), MemberOptions(meta_classes=3, learns="recipe")
    column = meta_classes(6, 3, 1)[:, 0]
    recipe = member_recipe(Job(0, "", recipe_for(data, **asked), data.train, column, options, 1))
    assert (recipe.classes, recipe.per_class) == expected


def test_meta_classes_of_your_own(tmp_path):
    column = np.array([[0], [0], [1], [1], [2], [2]])
    assert np.array_equal(trained(tmp_path, 1, bags=column).bags, column)


def test_divergence_names_its_member(tmp_path):
    recipe = recipe_for(drawn(), lr=1e30, epochs=3)
    with pytest.raises(TrainingDiverged, match="member 000: "):
        trained(tmp_path, 1, recipe=recipe)


def test_classes_that_train_and_are_measured_are_warned_of(whole, caplog):
    data = drawn()
    shared = ImageData(data.train, None, data.train, ())
    trained(whole.folder, learners=3, data=shared)
    assert "6 of the classes that are measured train too" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"learners": 0}, "learners must be at least 1, got 0"),
        ({"engine": "dask"}, "engine must be one of sequential, processes, ray, got 'dask'"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"jobs": 2}, "engine='sequential' trains one member at a time, got jobs=2"),
        ({"address": "auto"}, "address and gpus are for engine='ray', got engine='sequential'"),
        ({"options": MemberOptions(meta_classes=7)}, "n_meta must not exceed the 6 classes"),
        ({"bags": np.zeros((6, 3), int)}, r"\(classes, learners\) = \(6, 2\)"),
        ({"bags": np.zeros((6, 2), int)}, "column 0 of bags must hold every meta-class from 0"),
    ],
)
def test_refused(tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        trained(tmp_path, **more)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"meta_classes": 1}, "meta_classes must be at least 2, got 1"),
        ({"most_per_class": 0}, "most_per_class must be at least 1, got 0"),
        ({"learns": "else"}, "learns must be 'classification' or 'recipe', got 'else'"),
        ({"width": 5}, r"width must be the number of meta-classes \(12\)"),
        ({"learns": "recipe", "nca": True}, "normalize, nca and distance belong to"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        MemberOptions(**options)


def test_tags_are_refused(tmp_path):
    tags = ImageSet.from_arrays(np.zeros((4, 16, 16), np.uint8), [{"a"}, {"b"}, {"a"}, {"b"}])
    with pytest.raises(InputError, match="every picture must have one class, got tags"):
        trained(tmp_path, data=ImageData(tags, None, None, ()), recipe=recipe_for(drawn()))


def test_members_of_another_run_are_refused(whole):
    with pytest.raises(InputError, match=r"another run: lr was 0\.01, is 0\.02"):
        trained(whole.folder, learners=3, recipe=recipe_for(drawn(), lr=0.02))
    with pytest.raises(InputError, match="threads was 1, is 2"):
        trained(whole.folder, learners=3, threads=2)


def test_the_threads_of_a_run_are_remembered(whole):
    before = torch.get_num_threads()
    assert digests(trained(whole.folder, learners=3, threads=None)) == digests(whole)
    assert torch.get_num_threads() == before


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_ray_must_be_installed(tmp_path):
    with pytest.raises(ImportError, match=r"pip install 'tupelo\[ray\]'"):
        trained(tmp_path, engine="ray")


@pytest.mark.slow
def test_processes_train_the_same_bits(whole, tmp_path):
    told = []
    result = trained(tmp_path, learners=3, engine="processes", jobs=2, progress=told.append)
    assert digests(result) == digests(whole)
    assert told[-1] == engines.MembersProgress(3, 3)


@pytest.mark.slow
@needs_ray
@ray_warns
def test_two_workers_of_ray_train_the_same_bits(whole, tmp_path):
    assert digests(trained(tmp_path, learners=3, engine="ray", jobs=2)) == digests(whole)


def killer(out, number, times=1):
    """Kill -9 the worker that trains a member, once its first checkpoint is there."""
    killed = []

    def look():
        folder = out / "members" / f"{number:03d}"
        while len(killed) < times:
            time.sleep(0.02)
            if not list(folder.glob("checkpoint/last-*")) or (folder / "done.json").exists():
                continue
            text = (folder / "lock").read_text().strip()
            if text and int(text) not in (*killed, os.getpid()):
                os.kill(int(text), signal.SIGKILL)
                killed.append(int(text))

    threading.Thread(target=look, daemon=True).start()
    return killed


def long_recipe():
    return recipe_for(drawn(), epochs=6)


@pytest.fixture(scope="module")
def whole_long(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("long"), recipe=long_recipe())


@pytest.mark.slow
@ray_warns
@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=needs_ray)])
def test_a_killed_worker_is_replaced_and_nothing_is_lost(whole_long, tmp_path, engine, caplog):
    killed = killer(tmp_path, 1)
    result = trained(tmp_path, recipe=long_recipe(), engine=engine, jobs=2)
    assert len(killed) == 1
    assert "a worker died; going on with members" in caplog.text
    assert digests(result) == digests(whole_long)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_that_keep_dying_end_the_run_with_a_word(tmp_path):
    killer(tmp_path, 0, times=2)
    with pytest.raises(TupeloError, match=r"workers died 2 times in a row, and members 000 are"):
        trained(tmp_path, 1, recipe=long_recipe(), engine="processes", jobs=1, retries=1)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_what_is_missing(whole_long, tmp_path):
    script = tmp_path / "again.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_members import long_recipe, trained\n"
        "from pathlib import Path\n"
        "trained(Path(sys.argv[2]), recipe=long_recipe())\n"
    )
    out = tmp_path / "run"
    command = [sys.executable, str(script), str(Path(__file__).parent), str(out)]
    process = subprocess.Popen(command)
    while not list(out.glob("members/001/checkpoint/last-*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = (out / "members" / "000" / "done.json").stat().st_mtime_ns
    assert not (out / "model").exists()
    assert digests(trained(out, recipe=long_recipe())) == digests(whole_long)
    assert (out / "members" / "000" / "done.json").stat().st_mtime_ns == done
