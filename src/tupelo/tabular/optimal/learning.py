"""Weights of a family for one objective, and what is known about them afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.tabular.optimal.atoms import Atoms, make_atoms
from tupelo.tabular.optimal.clusters import clusters_of, error_points
from tupelo.tabular.optimal.model import evaluate, wanted
from tupelo.tabular.optimal.neighbours import Family, nearest
from tupelo.tabular.optimal.ramp import ramp, ramp_objective
from tupelo.tabular.optimal.rounds import optimise
from tupelo.tabular.optimal.semidefinite import (
    FullMatrix,
    Spectrahedron,
    directions_of,
    full_matrix,
)
from tupelo.tabular.optimal.soft import (
    Simplex,
    Soft,
    SoftModel,
    SoftProgress,
    alternate,
    margin_of,
)
from tupelo.tabular.optimal.solvers import Progress

OBJECTIVES = ("hinge", "count", "ramp", "majority")
ROUNDS = {"hinge": 10, "count": 4, "ramp": 4, "majority": 4}
NEIGHBOURS = {"hinge": 3, "count": 1, "ramp": 1, "majority": 3}

Shown = Callable[[SoftProgress | Progress], None]


@dataclass(frozen=True)
class Settings:
    """How weights are learned; the words are those of `MIOMetric`."""

    objective: str
    atoms: str
    k: int
    margin: float
    distortion: float
    rho: float
    epsilon: float
    radius_weight: float
    ramp_cost: float
    kappa: float | None
    escalate: bool
    max_rounds: int
    time_limit: float | None
    mip_gap: float
    solver: str
    agglomerations: int


@dataclass(frozen=True)
class Learned:
    """Weights, and what is proven about them.

    Attributes:
        family: of distances.
        w: (A,) its weights.
        objective: that was minimised, at w.
        at_start: the same at the Euclidean weights.
        history: objective after each stage that improved it.
        status: "converged" or "optimal", or what ended it: "rounds", "time_limit",
            "interrupted", "error".
        bound: below which no weights of the certificate's region lie; None without one.
        certificate: factor kappa of the region in which nothing is better; inf: everywhere; None:
            not proven.
        rounds: that were made.
    """

    family: Family
    w: Float[ndarray, " A"]
    objective: float
    at_start: float
    history: tuple[float, ...]
    status: str
    bound: float | None
    certificate: float | None
    rounds: int


def learn(
    settings: Settings,
    X: Float[ndarray, "n d"],
    y: Int[ndarray, " n"],
    *,
    costs: Float[ndarray, " n"] | None = None,
    start: Float[ndarray, " A"] | None = None,
    random_state: int | np.random.RandomState | None = None,
    progress: Shown | None = None,
) -> Learned:
    """Learn the weights.

    The alternating linear programs come first; for "hinge" they are all, for the others their
    weights are where exact solves begin. Ctrl-C keeps the best weights until then.

    Args:
        settings: what is minimised and how.
        X: rows as they are compared.
        y: numbers of the classes.
        costs: of points; None: all 1.
        start: weights to begin with, where they fit the family and are better than Euclid.
        random_state: of the family "rank1".
        progress: is told how far it is.
    """
    began = time.perf_counter()
    family = _family(settings.atoms, X, y, random_state)
    need = wanted(settings.k, settings.objective == "majority")[0]
    m = margin_of(family, X, y, settings.margin)
    model = SoftModel(family, X, y, need, settings.distortion, m, costs)
    soft = _soft(settings, model, start, progress)
    if settings.objective == "hinge":
        found = Learned(
            family, soft.w, soft.objective, soft.history[0], soft.history, soft.status, None, None,
            soft.rounds,
        )  # fmt: skip
        rest = settings
        for _ in range(1, settings.agglomerations):
            if found.status not in ("converged", "rounds"):  # stopped from outside
                break
            if settings.time_limit is not None:
                left = settings.time_limit - (time.perf_counter() - began)
                rest = replace(settings, time_limit=left)
            found = _agglomerated(rest, model, found, progress)
        return found
    w = soft.w
    if isinstance(family, FullMatrix):
        family, w = directions_of(family, w, X)
    assert isinstance(family, Atoms)  # noqa: S101
    model = replace(model, family=family)
    exact = _ramp if settings.objective == "ramp" else _count
    if soft.status == "interrupted":
        settings = replace(settings, max_rounds=0)
    found = exact(settings, model, w, progress)
    return replace(found, status="interrupted") if soft.status == "interrupted" else found


def _family(name: str, X: ndarray, y: ndarray, random_state) -> Family:
    return full_matrix(X) if name == "psd" else make_atoms(name, X, y, random_state)


def _soft(
    settings: Settings, model: SoftModel, start: ndarray | None, progress: Shown | None
) -> Soft:
    family = model.family
    size = len(family.start)
    domain = Spectrahedron(family) if isinstance(family, FullMatrix) else Simplex(size)
    euclid = family.start
    begin = euclid
    if start is not None and start.shape == euclid.shape:
        start = domain.repaired(start)  # it may be of another family of as many weights
        begin = start if model.objective(start) < model.objective(euclid) else euclid
    found = alternate(
        model,
        begin,
        rounds=settings.max_rounds if settings.objective == "hinge" else ROUNDS["hinge"],
        domain=domain,
        solver=settings.solver,
        time_limit=settings.time_limit,
        progress=progress,
    )
    if begin is not euclid:
        found = replace(found, history=(model.objective(euclid), *found.history))
    return found


def _agglomerated(
    settings: Settings, model: SoftModel, before: Learned, progress: Shown | None
) -> Learned:
    """Once more, with local clusters in place of points."""
    near = nearest(model.family, before.w, model.X, model.y, k=model.k, groups=model.groups)
    errors = error_points(near.radius, near.gap, settings.rho, settings.epsilon)
    groups = clusters_of(near, errors)
    costs = None
    if model.costs is not None:
        costs = np.bincount(groups, model.costs) / np.bincount(groups)
    joined = replace(model, k=1, groups=groups, costs=costs)
    found = _soft(settings, joined, before.w, progress)
    return Learned(
        model.family, found.w, found.objective, found.history[0], found.history, found.status,
        None, None, before.rounds + found.rounds,
    )  # fmt: skip


def _count(settings: Settings, model: SoftModel, w: ndarray, progress: Shown | None) -> Learned:
    family = model.family
    assert isinstance(family, Atoms)  # noqa: S101
    shared = {
        "k": settings.k,
        "rho": settings.rho,
        "epsilon": settings.epsilon,
        "costs": model.costs,
        "distortion": settings.distortion,
        "radius_weight": settings.radius_weight,
        "majority": settings.objective == "majority",
    }
    found = optimise(
        family, model.X, model.y, w, **shared,
        kappa=settings.kappa, escalate=settings.escalate, max_rounds=settings.max_rounds,
        time_limit=settings.time_limit, mip_gap=settings.mip_gap, solver=settings.solver,
        progress=progress,
    )  # fmt: skip
    at_start = evaluate(family, family.start, model.X, model.y, **shared).objective
    improved = [one.objective for one in found.history if one.improved]
    return Learned(
        family, found.weights, found.objective, at_start, (at_start, *improved), found.status,
        found.bound if np.isfinite(found.bound) else None, found.certificate, found.rounds,
    )  # fmt: skip


def _ramp(settings: Settings, model: SoftModel, w: ndarray, progress: Shown | None) -> Learned:
    at_start = ramp_objective(model, model.family.start, settings.ramp_cost)
    if ramp_objective(model, w, settings.ramp_cost) > at_start:
        w = model.family.start
    found = ramp(
        model,
        w,
        cost=settings.ramp_cost,
        kappa=settings.kappa,
        rounds=settings.max_rounds,
        time_limit=settings.time_limit,
        mip_gap=settings.mip_gap,
        solver=settings.solver,
        progress=progress,
    )
    return Learned(
        model.family, found.w, found.objective, at_start, (at_start, *found.history), found.status,
        found.bound if np.isfinite(found.bound) else None, found.certificate, found.rounds,
    )  # fmt: skip
