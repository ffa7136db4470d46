"""From a few-shot recipe to what it names: pictures, model, objective, episodes, settings."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from tupelo.data import ImageData, ImageSet, rotated
from tupelo.data.decode import BadPicture
from tupelo.data.images import list_source, open_listing
from tupelo.data.listing import TRAIN, VALIDATION, Listing
from tupelo.data.official.catalogue import CATALOGUE
from tupelo.data.official.layout import Asked
from tupelo.data.official.places import PREFIX, is_named
from tupelo.data.pictures import Progress
from tupelo.errors import DataError, InputError
from tupelo.fewshot import (
    EpisodeHead,
    Episodes,
    FewShot,
    FullContext,
    GraphHead,
    LargeMargin,
    Layout,
    Matching,
    NormalisedContrastive,
    OnEpisodes,
    PointLoss,
    Prototypical,
    arc_face,
    conv4,
    cos_face,
    graph_encoder,
    graph_triplets,
    norm_face,
    prototype_triplets,
)
from tupelo.fewshot.objectives import Answering
from tupelo.recipes.fewshot_recipe import GRAPHS, PROTOTYPES, WITH_MARGIN, FewShotRecipe
from tupelo.recipes.reading import checked
from tupelo.training import Settings

GREY_SIDE, COLOUR_SIDE = 28, 84  # pixels, of Omniglot and miniImageNet
USUAL_SHARE = 0.15
PROBED = 16  # pictures that tell whether all are grey, and how large
INK = ((1.0,), (-1.0,))  # mean and std that turn black ink on white into ink = 1
NORMAL = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of photographs
OF_GRAPHS = {
    "1": ((0.5,), (0.5,)),  # into [-1, 1]
    "3": ((120.45 / 255, 115.74 / 255, 104.65 / 255), (0.5, 0.5, 0.5)),
}


class Published(NamedTuple):
    """How a method is trained in its paper.

    Attributes:
        ways: classes of a training episode; 0: those it is judged with.
        queries: of each class.
        per_batch: episodes a step.
        steps: of a run.
        halve_every: steps.
        weight_decay: of the network.
    """

    ways: int
    queries: int
    per_batch: int
    steps: int
    halve_every: int
    weight_decay: float = 0.0


def published(recipe: FewShotRecipe, grey: bool) -> Published:
    """Values for pictures of characters (grey) or of miniImageNet.

    Prototypical networks: Snell et al. (2017); with a margin, Wang et al. (2018), whose queries of
    15 a class are also those of colour. Matching networks get the values of prototypical ones,
    which makes them comparable; their paper has none. Graph networks: Garcia and Bruna (2018).
    Only of these a number of steps is printed: Snell et al. stop when validation does not improve.
    """
    if recipe.method in GRAPHS:
        return _of_graphs(recipe, grey)
    if recipe.method == "l-pn":
        return Published(20, 15, 1, 20_000, 2_000)
    if grey:
        return Published(60, 5, 1, 20_000, 2_000)
    return Published(30 if recipe.shots == 1 else 20, 15, 1, 20_000, 2_000)


def _of_graphs(recipe: FewShotRecipe, grey: bool) -> Published:
    if grey:
        first = recipe.ways <= 5 and recipe.shots == 1
        return Published(0, 1, 300 if first else 100, 100_000 if first else 80_000, 10_000)
    if recipe.shots == 1:
        return Published(0, 1, 100, 80_000, 15_000, 1e-6)
    return Published(0, 1, 40, 100_000 if recipe.unlabelled else 90_000, 15_000, 1e-6)


def source_of(name: str) -> str:
    """A source as `data.images` takes it: a known data set may be given by its name alone.

    >>> source_of("omniglot"), source_of("photos/")
    ('known:omniglot', 'photos/')
    """
    return f"{PREFIX}{name}" if name in CATALOGUE and not Path(name).exists() else name


def read_data(
    recipe: FewShotRecipe, bad_items: Path | None, progress: Progress | None
) -> ImageData:
    """The pictures of a recipe, split by class; those left out are listed in `bad_items`.

    Raises:
        DataError: as `data.images`, or classes that occur in several parts of a given split.
        InputError: there are too few classes for its episodes.
    """
    source = source_of(recipe.source)
    listing = list_source(source, recipe.columns or None, Asked("class", seed=recipe.seed))
    validation, test = _shares(recipe, listing)
    data = open_listing(
        listing,
        source,
        split=None if recipe.split == "auto" else recipe.split,
        size=recipe.size or _usual_size(recipe, listing),
        channels={"auto": "auto", "1": 1, "3": 3}[recipe.channels],
        resize=recipe.resize,
        validation=validation,
        test=test,
        seed=recipe.seed,
        allow_bad=recipe.allow_bad,
        bad_items=bad_items,
        progress=progress,
    )
    for name, part in (("validation", data.validation), ("test", data.test)):
        _check_part(recipe, data.train, name, part)
    return replace(data, train=rotated(data.train)) if recipe.rotations else data


def _shares(recipe: FewShotRecipe, listing: Listing) -> tuple[float, float]:
    """Shares of classes to choose on and to judge by: at least the classes of an episode."""
    if listing.labels.ndim != 1:
        raise InputError(
            f"episodes need one class a picture, and {recipe.source} has tags; choose one of them"
        )
    given = listing.given if recipe.split != "classes" else None
    of_training = listing.labels if given is None else listing.labels[given == TRAIN]
    n = len(np.unique(of_training))
    tested = recipe.test
    if tested is None:
        tested = _enough(n, recipe.ways) if given is None else 0.0
    left = n if given is not None else n - round(tested * n)
    chosen = recipe.validation
    if chosen is None:
        chosen = _enough(left, recipe.ways)
    if given is not None and (given == VALIDATION).any():
        chosen = 0.0
    return chosen, tested


def _enough(n: int, ways: int) -> float:
    """A share that holds the classes of an episode, while as many are left to train on."""
    if n < 2 * ways:
        return USUAL_SHARE if n >= 4 else 0.0
    return max(USUAL_SHARE, (ways + 0.01) / n)


def _usual_size(recipe: FewShotRecipe, listing: Listing) -> int:
    """The side of published pictures; not enlarged for an encoder that takes any size."""
    rows = np.linspace(0, len(listing.names) - 1, min(PROBED, len(listing.names))).astype(int)
    headers = []
    for row in rows.tolist():
        try:
            headers.append(listing.pictures.probe(row).header)
        except BadPicture:  # told with the others when all are read
            continue
    grey = recipe.channels == "1" or (
        recipe.channels == "auto" and all(header.grey for header in headers)
    )
    usual = GREY_SIDE if grey else COLOUR_SIDE
    if recipe.encoder == "graph" or not headers:
        return usual
    own = min(min(header[:2]) for header in headers)
    return max(16, min(usual, own))


def _check_part(recipe: FewShotRecipe, train: ImageSet, name: str, part: ImageSet | None) -> None:
    if part is None:
        return
    if not set(train.class_names).isdisjoint(part.class_names):
        raise DataError(
            f"the {name} part of {recipe.source} has classes that also train, and few-shot "
            "learning is judged on new ones; give --split classes"
        )
    if part.n_classes < recipe.ways:
        share = (recipe.ways + 0.01) / max(1, train.n_classes + part.n_classes)
        more = f", give --{name} {min(0.5, share):.2f} for more of them" if share <= 0.5 else ""
        raise InputError(
            f"the {name} part has {part.n_classes} classes and --ways {recipe.ways} needs as many; "
            f"lower --ways{more}, or add classes"
        )


def resolve(recipe: FewShotRecipe, data: ImageData) -> FewShotRecipe:
    """The recipe with everything that was left open chosen from method and pictures.

    Raises:
        InputError: classes with too few pictures for the shots.

    >>> pictures = ImageSet.from_arrays(np.zeros((80, 28, 28), np.uint8), np.arange(8).repeat(10))
    >>> full = resolve(FewShotRecipe(source="photos"), ImageData(pictures, None, None, ()))
    >>> full.size, full.train_ways, full.train_queries, full.halve_every
    (28, 8, 5, 2000)
    """
    train = data.train
    usual = published(recipe, grey=train.channels == 1)
    shots = recipe.train_shots or recipe.shots
    wanted = recipe.train_ways or usual.ways or recipe.ways
    given = recipe.model_dump()
    counts = np.bincount(train.labels)
    able = int((counts > shots).sum())
    if able < 2:
        raise InputError(
            f"a training episode needs 2 classes of {shots + 1} pictures (--train-shots {shots} "
            f"and one to ask about), and only {able} of {len(counts)} training classes have them; "
            "lower --shots"
        )
    ways = wanted if recipe.train_ways or recipe.method in GRAPHS else min(wanted, able)
    judged = [part for part in (data.validation, data.test) if part is not None]
    most = 1 if recipe.method in GRAPHS else 15
    chosen: dict[str, Any] = {
        "size": train.size[0],
        "channels": str(train.channels),
        "queries": min(
            [
                fitting_queries(np.bincount(part.labels), recipe.ways, recipe.shots, most)
                for part in judged
            ]
            or [most]
        ),
        "train_ways": ways,
        "train_shots": shots,
        "train_queries": fitting_queries(counts, ways, shots, usual.queries),
        "per_batch": usual.per_batch,
        "steps": usual.steps,
        "halve_every": usual.halve_every,
        "weight_decay": usual.weight_decay,
    }
    named = source_of(recipe.source)
    # not resolve(): links stay named as they are, and so do known data sets
    source = named if is_named(named) else os.path.abspath(named)  # noqa: PTH100
    open_ = {name: value for name, value in chosen.items() if given[name] in (None, "auto")}
    return checked(FewShotRecipe, {**given, **open_, "source": source})


def fitting_queries(counts: Int64[np.ndarray, " n"], ways: int, shots: int, most: int) -> int:
    """Queries a class: what most classes have, or as many as an episode needs have; at least 1."""
    spare = int(np.sort(counts)[::-1][min(ways, len(counts)) - 1]) - shots
    typical = int(np.median(counts)) - shots  # so that most classes take part
    return max(1, min(most, spare, typical if typical >= 1 else spare))


def judged_layout(recipe: FewShotRecipe) -> Layout:
    """Of the episodes in which a resolved recipe is judged."""
    return Layout(recipe.ways, recipe.shots, recipe.queries or 1, unlabelled=recipe.unlabelled)


def train_layout(recipe: FewShotRecipe) -> Layout:
    """Of the batches of a resolved recipe. Graph networks are asked about one class, as published.

    Raises:
        InputError: as `Layout`.
    """
    return Layout(
        recipe.train_ways or recipe.ways,
        recipe.train_shots or recipe.shots,
        recipe.train_queries or 1,
        per_batch=recipe.per_batch or 1,
        unlabelled=recipe.unlabelled,
        query_ways=1 if recipe.method in GRAPHS else None,
    )


def build_model(recipe: FewShotRecipe) -> FewShot:
    """The learner of a resolved recipe; its random start comes from the global generator.

    Raises:
        InputError: an option of the head has a value it does not take.
    """
    channels, size = int(recipe.channels), recipe.size or GREY_SIDE
    if recipe.encoder == "graph":
        encoder = graph_encoder(size, channels=channels, width=recipe.width)
        mean, std = OF_GRAPHS[recipe.channels]
    else:
        encoder = conv4(channels, width=recipe.width, size=size)
        mean, std = INK if channels == 1 else NORMAL
    return FewShot(encoder, _head(recipe, encoder.num_features, size), mean=mean, std=std)


def _head(recipe: FewShotRecipe, dim: int, size: int) -> EpisodeHead:
    options = dict(recipe.head_options)
    if recipe.method in PROTOTYPES:
        return Prototypical(recipe.similarity or "euclidean", scale=recipe.scale or 1.0)
    if recipe.method == "matching":
        reading = {name: options.pop(name) for name in ("steps", "start") if name in options}
        fce = _built(FullContext, {"dim": dim, **reading}) if recipe.context else None
        given = {"similarity": recipe.similarity, "scale": recipe.scale, "fce": fce}
        return _built(Matching, {**given, **options})
    usual = {"variant": "omniglot" if size == GREY_SIDE else "miniimagenet"}
    stated = {"dim": dim, "ways": recipe.ways, "scale": recipe.scale}
    return _built(GraphHead, {**stated, **usual, **options})


def _built(kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        return kind(**options)
    except TypeError as error:  # a text where a number is meant
        raise InputError(f"--head-option: {error}") from error


def build_objective(recipe: FewShotRecipe, model: FewShot) -> OnEpisodes:
    """What a resolved recipe trains its model on.

    Raises:
        InputError: as the margin and its table of triplets.
    """
    layout = train_layout(recipe)
    return OnEpisodes(
        model.head,
        layout,
        margin=_margin(recipe, layout) if recipe.method in WITH_MARGIN else None,
        weight=1.0 if recipe.margin_weight is None else recipe.margin_weight,
        warmup_steps=recipe.margin_warmup or 0,
        loss=_answer_loss(recipe, model.head),
    )


def _margin(recipe: FewShotRecipe, layout: Layout) -> PointLoss:
    made = graph_triplets if recipe.method in GRAPHS else prototype_triplets
    table, margin = made(layout, seed=recipe.seed), recipe.margin or "rule"
    if recipe.margin_loss == "contrastive":
        return NormalisedContrastive(table, margin=float(margin))
    normalised = recipe.margin_loss == "normalised-triplet"
    return LargeMargin(table, margin=margin, normalised=normalised)


def _answer_loss(recipe: FewShotRecipe, head: EpisodeHead) -> Answering | None:
    match recipe.answer_loss:
        case "softmax":
            return None
        case "normface":
            return norm_face(head)
        case "cosface":
            return cos_face(head, recipe.answer_margin or 0.0)
        case "arcface":
            return arc_face(head, recipe.answer_margin or 0.0)


def build_batches(recipe: FewShotRecipe, train: ImageSet) -> Episodes:
    """The episodes of a resolved recipe.

    Raises:
        InputError: as `Episodes`.
    """
    layout = train_layout(recipe)
    return Episodes(train.labels, layout, per_epoch=recipe.evaluate_every, seed=recipe.seed)


def build_settings(recipe: FewShotRecipe) -> Settings:
    """The settings of the training loop; an epoch is what lies between two validations."""
    stated = recipe.model_dump()
    names = Settings.__dataclass_fields__.keys() & stated.keys() - {"evaluate_every"}
    return Settings(
        **{name: stated[name] for name in names},
        optimizer="adam",
        schedule="halving",
        evaluate_every=1,
    )
