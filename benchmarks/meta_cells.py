"""Training of one cell of `benchmarks/meta.py`; domains are alphabets or subjects of talk."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from tupelo.data import known
from tupelo.fewshot import (
    FIVE_VS_THREE,
    THREE_VS_FIVE,
    Direct,
    Domain,
    Episode,
    EpisodicModel,
    FewShot,
    FullContext,
    Matching,
    MetaLSTM,
    MetaMetricLearner,
    MetaSettings,
    Tasks,
    TextCNN,
    TextFewShot,
    Vocabulary,
    conv4,
    fit_each,
    meta_evaluate,
    meta_fit,
    picture_domains,
    read_texts,
    retrieve,
    text_domains,
    transfers,
    word_vectors,
)

RUNS = Path(__file__).parent / "runs" / "meta"
SPLITS = {"5v3": FIVE_VS_THREE, "3v5": THREE_VS_FIVE}
QUERIES = 6  # a class
RETRIEVED = 3  # domains


@dataclass(frozen=True)
class Plan:
    """How large the learners are and how long they train.

    Attributes:
        width: channels of Conv4, or filters a window of TextCNN.
        episodes: of meta-training.
        steps: updates T.
        tests: tasks of a run.
        validate_every: episodes; the best weights of 20 tasks are kept.
        max_classes: of a training task; None: all of its domain's part.
    """

    width: int
    episodes: int
    steps: int = 4
    tests: int = 20
    validate_every: int = 200
    max_classes: int | None = None


def alphabets(plan: Plan, split: str, shots: int, run: int, methods: Sequence[str]) -> dict:
    """Every alphabet is a domain; its classes are divided, and tasks have all of a part."""
    parts = [domain.divide(SPLITS[split], seed=run) for domain in _alphabets()]
    return _heterogeneous(plan, parts, partial(_picture_network, plan), split, shots, run, methods)


def subjects(plan: Plan, split: str, shots: int, run: int, methods: Sequence[str]) -> dict:
    """The same with the subjects of CLINC150."""
    domains, network = _tokens()[0], partial(_text_network, plan)
    parts = [domain.divide(SPLITS[split], seed=run) for domain in domains]
    return _heterogeneous(plan, parts, network, split, shots, run, methods)


def _heterogeneous(plan, parts, network, split, shots, run, methods) -> dict:
    common = {"shots": shots, "queries": QUERIES, "seed": run}
    train = Tasks([each[0] for each in parts], max_classes=plan.max_classes, **common)
    validation, test = (Tasks([each[part] for each in parts], **common) for part in (1, 2))
    tasks = [test.task(number) for number in range(plan.tests)]
    found = {}
    for method in methods:
        if method == "Meta-LSTM" and split == "3v5":
            continue  # it cannot take more classes than in training
        begun = time.perf_counter()
        widest = max(each[0].n_classes for each in parts)
        model = _model(method, plan, network, run, widest)
        longer = 5 if method.endswith("equal time") else 1
        trained = meta_fit(model, train, validate=validation, settings=_settings(plan, run, longer))
        found[method] = meta_evaluate(model, tasks).mean
        found[f"{method}: validation"] = trained.best["accuracy"]
        found[f"{method}: seconds"] = time.perf_counter() - begun
        if isinstance(model, MetaMetricLearner):
            found |= _ablations(model, tasks)
    return found


def _ablations(model: MetaMetricLearner, tasks: Sequence[Episode]) -> dict:
    """The same weights without updates, and with the whole support at the test alone."""
    unadapted = [
        (model.unadapted(task).answer(task.queries).argmax(1) == task.query_labels).double().mean()
        for task in tasks
    ]
    model.eval_support = "all"
    whole = meta_evaluate(model, tasks).mean
    model.eval_support = "DS"
    return {"c_0 without updates": float(np.mean(unadapted)), "MML, all support at test": whole}


def left_out(plan: Plan, domain: int, shots: int) -> dict:
    """Train on nine subjects of CLINC150, test on the tenth, all its classes at once."""
    domains, network = _tokens()[0], partial(_text_network, plan)
    others = [each for number, each in enumerate(domains) if number != domain]
    validation, train = others[domain % 9], [e for e in others if e is not others[domain % 9]]
    # classes of the target are 15; tasks of training have as many, and are drawn as those are
    source = Tasks(train, shots=shots, queries=QUERIES, seed=domain)
    judged = Tasks([validation], shots=shots, queries=QUERIES, seed=domain)
    target = Tasks([domains[domain]], shots=shots, queries=QUERIES, seed=domain)
    tasks = [target.task(number) for number in range(plan.tests)]
    found: dict[str, float] = {}
    for method in ("Matching network", "Matching network, FCE", "MML"):
        model = _model(method, plan, network, domain, 15)
        meta_fit(model, source, validate=judged, settings=_settings(plan, domain))
        found[method] = meta_evaluate(model, tasks).mean
        if isinstance(model, MetaMetricLearner):
            found |= _ablations(model, tasks)
            each = fit_each(
                network(), train, shots=shots, queries=QUERIES, settings=_short(plan, domain)
            )
            found |= _with_auxiliary(model, tasks, train, each, shots, domain)
    return found


def one_shot(plan: Plan, run: int) -> dict:
    """Published table 2: one-shot targets, 5-vs-3, auxiliary tasks from the other subjects."""
    domains, network = _tokens()[0], partial(_text_network, plan)
    parts = [domain.divide(FIVE_VS_THREE, seed=run) for domain in domains]
    train, validation = ([each[part] for each in parts] for part in (0, 1))
    settings = _settings(plan, run)
    found: dict[str, list[float]] = {}
    two = {"shots": 2, "queries": QUERIES, "seed": run}
    mml = _model("MML", plan, network, run, 8)
    meta_fit(mml, Tasks(train, **two), validate=Tasks(validation, **two), settings=settings)
    one = two | {"shots": 1}
    matching = _model("Matching network", plan, network, run, 8)
    meta_fit(matching, Tasks(train, **one), validate=Tasks(validation, **one), settings=settings)
    widest = max(each[0].n_classes for each in parts)
    lstm = _model("Meta-LSTM", plan, network, run, widest)
    meta_fit(lstm, Tasks(train, **one), validate=Tasks(validation, **one), settings=settings)
    each = fit_each(network(), train, shots=1, queries=QUERIES, settings=_short(plan, run))
    for number, domain in enumerate(domains):
        target = Tasks([parts[number][2]], **one)
        tasks = [target.task(n) for n in range(max(1, plan.tests // 5))]
        others = [each_ for i, each_ in enumerate(train) if i != number]
        models = {"Matching network": matching, "Meta-LSTM": lstm}
        values = {name: meta_evaluate(model, tasks).mean for name, model in models.items()}
        bare = [
            (mml.unadapted(t).answer(t.queries).argmax(1) == t.query_labels).double().mean()
            for t in tasks
        ]
        values["MML, no auxiliary tasks"] = float(np.mean(bare))
        # what is known of a one-shot target: tasks of meta-training classes of its own domain
        own = Tasks([train[number]], shots=1, queries=QUERIES, seed=run)
        ranked = transfers(each, labelled=[own.task(n) for n in range(5)], exclude=domain.name)
        chosen = retrieve(ranked, RETRIEVED)
        rng = np.random.default_rng([run, number])
        drawn = [others[i].name for i in rng.choice(len(others), RETRIEVED, replace=False)]
        for name, names in (
            ("MML, 3 retrieved", chosen),
            ("MML, 3 at random", drawn),
            ("MML, all 9", [each_.name for each_ in others]),
        ):
            source = [each_ for each_ in others if each_.name in names]
            values[name] = meta_evaluate(mml, tasks, auxiliary=_auxiliary(source, 2, run)).mean
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _with_auxiliary(model, tasks, train, each, shots: int, seed: int) -> dict:
    """MML with tasks of all other domains, of those a retrieval names, and of as many at random."""
    rng = np.random.default_rng(seed)
    names = [domain.name for domain in train]
    right: dict[str, list[float]] = {}
    for number, task in enumerate(tasks):
        ranked = transfers(each, task, seed=seed)
        for method, chosen in (
            ("MML, 3 retrieved", retrieve(ranked, RETRIEVED)),
            ("MML, 3 at random", list(rng.choice(names, RETRIEVED, replace=False))),
            ("MML, all others", names),
        ):
            source = [domain for domain in train if domain.name in chosen]
            auxiliary = _auxiliary(source, shots, seed + number)
            right.setdefault(method, []).append(
                meta_evaluate(model, [task], auxiliary=auxiliary, seed=number).mean
            )
    return {method: float(np.mean(values)) for method, values in right.items()}


def _auxiliary(domains: Sequence[Domain], shots: int, seed: int) -> list[Episode]:
    """A task of each domain."""
    source = Tasks(domains, shots=shots, queries=1, seed=seed)
    return [source.of(number, 0) for number in range(len(domains))]


def _model(method: str, plan: Plan, network, seed: int, widest: int) -> EpisodicModel:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    mode = "transductive"  # of all methods, as in the specification's experiment
    if method == "MML":
        return MetaMetricLearner(network(), steps=plan.steps, bn_mode=mode, generator=generator)
    if method == "Meta-LSTM":
        return MetaLSTM(
            _plain(network()), widest, steps=plan.steps, bn_mode=mode, generator=generator
        )
    return Direct(network(fce="FCE" in method), bn_mode=mode)


def _plain(model: torch.nn.Module) -> torch.nn.Module:
    """The network without its head, which still turns pictures into ink."""
    model.num_features = model.encoder.num_features
    del model.head
    return model


def _settings(plan: Plan, seed: int, longer: int = 1) -> MetaSettings:
    return MetaSettings(
        episodes=plan.episodes * longer,
        validate_every=plan.validate_every * longer,
        validate_tasks=20,
        seed=seed,
    )


def _short(plan: Plan, seed: int) -> MetaSettings:
    """Of the learner of each domain, which only ranks domains."""
    return MetaSettings(episodes=max(2, plan.episodes // 4), seed=seed)


@lru_cache(1)
def _alphabets() -> list[Domain]:
    read = known("omniglot", root=os.environ["TUPELO_DATA"], size=28, channels=1)
    parts = [part for part in (read.train, read.validation, read.test) if part is not None]
    return [domain for part in parts for domain in picture_domains(part)]


def _picture_network(plan: Plan, *, fce: bool = False) -> FewShot:
    encoder = conv4(width=plan.width)
    head = Matching("dot", fce=FullContext(encoder.num_features) if fce else None)
    return FewShot(encoder, head, mean=(1.0,), std=(-1.0,))


@lru_cache(1)
def _tokens() -> tuple[list[Domain], Vocabulary, torch.Tensor]:
    """Texts, and vectors of their words learned from them without labels: no GloVe is here."""
    texts = read_texts("clinc150", root=os.environ["TUPELO_DATA"])
    vocabulary = Vocabulary.of(text for domain in texts for text in domain.texts)
    domains = text_domains(texts, vocabulary)
    return domains, vocabulary, word_vectors([each.items for each in domains], len(vocabulary))


def _text_network(plan: Plan, *, fce: bool = False) -> TextFewShot:
    _, vocabulary, vectors = _tokens()
    encoder = TextCNN(len(vocabulary), filters=plan.width, vectors=vectors)
    head = Matching("dot", fce=FullContext(encoder.num_features) if fce else None)
    return TextFewShot(encoder, head, vocabulary=vocabulary)
