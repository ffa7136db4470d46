"""`MIOMetric`: optimal metrics for tables, by mixed-integer and linear programs."""

import logging
import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from tupelo.errors import InputError
from tupelo.tabular.active.recommending import Suggestion, from_pool, uncertainty, without_pool
from tupelo.tabular.active.regions import Labelled, Region, Ruler, regions
from tupelo.tabular.inputs import check_name, check_number, classes_of
from tupelo.tabular.metrics import LinearMetric, euclidean
from tupelo.tabular.optimal.atoms import FAMILIES, Atoms
from tupelo.tabular.optimal.clusters import Structure, structure
from tupelo.tabular.optimal.learning import NEIGHBOURS, OBJECTIVES, ROUNDS, Settings, learn
from tupelo.tabular.optimal.model import evaluate, wanted
from tupelo.tabular.optimal.outcome import MIOReport, report_of
from tupelo.tabular.optimal.soft import SoftProgress
from tupelo.tabular.optimal.solvers import Progress, check_solver

log = logging.getLogger(__name__)

ATOMS = (*FAMILIES, "psd")
CONSTANT = 1e-12  # a spread below this share of the size of a feature is rounding
COLLAPSED = 0.5  # share of rows that lie on a row of another class
SECONDS_BETWEEN_LINES = 1.0


class MIOMetric(LinearMetric, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Metric D(x, z) = sum_a w_a phi_a(x - z) that gives every row a pure local cluster.

    No target neighbours, pairs or triplets are given: the nearest of the same class are chosen
    with the weights. "hinge" is the default, for accuracy; "count" minimises the number of rows
    whose nearest neighbours are not of their class, exactly, and says what is proven.

    In the spirit of Kumaran, Papageorgiou, Chang, Li, Takac, "Active metric learning for supervised
    classification" (arXiv 1803.10647): of the paper only the abstract could be read, so formulas,
    names and defaults are ours.

    Args:
        n_neighbors: k, neighbours of the same class in a local cluster. None: 1 for "count" and
            "ramp", 3 for "hinge" and "majority"; for "hinge" fewer where a class is smaller.
        atoms: the family of phi. "diag": a weight a feature; "rank1": also for principal
            components and discriminant directions; "dd": all diagonally dominant matrices; "psd":
            all matrices; "l1", "l1+l2", "l2+l4": other powers, which have distances but no linear
            map; that of "l2+l4" is a dissimilarity, without the triangle inequality.
        objective: "hinge": alternating linear programs. "count": the fewest errors, by exact
            solves. "ramp": the hinge, but no row costs more than `ramp_cost`. "majority": errors
            of the majority of k neighbours (k odd).
        margin: of the hinge, in medians of the distance to the nearest other class.
        distortion: lambda, price of moving away from the Euclidean metric; 0.1 for few labels.
        rho: a row is an error unless other classes are farther than its cluster by this share.
        epsilon: and by this much, where distances have mean one.
        radius_weight: mu, price of the clusters' mean radius ("count", "majority").
        ramp_cost: C, what a row costs at most, in margins.
        kappa: factor of the region around the best weights in which solves are exact; None: all.
        escalate: widen the region where nothing in it is better ("count", "majority").
        max_rounds: None: 10 for "hinge", 4 exact solves for the others.
        time_limit: seconds, of all rounds of "hinge" and of each exact solve; None: no limit.
        mip_gap: relative gap at which an exact solve counts as optimal.
        solver: "highs" (`pip install 'tupelo[tabular]'`), "scipy" (always there), or "scip".
        standardize: bring features to mean 0 and variance 1 first.
        class_weight: "balanced", weights by class, or None; see scikit-learn.
        small_classes: what "hinge" does where a class has k members or fewer: "error", or
            "ignore": its rows only keep their distance to others.
        agglomerations: further rounds of "hinge" with local clusters in place of rows, which makes
            clusters larger; 1: none.
        warm_start: begin at the weights of the last fit where they are better than Euclid.
        verbose: log a line a second at level INFO.
        random_state: of the directions of "rank1".

    Attributes:
        weights_: (A,) w, on the simplex; for "psd" the upper triangle of a matrix of trace 1.
        components_: (m, d) L of D = |L (x - z)|^2 for standardised rows; not for other powers.
        atoms_: the family.
        errors_: (n,) training rows without a pure local cluster.
        radii_: (n,) D to the k-th nearest of the same class, infinite where there are too few.
        margins_: (n,) D to the nearest of another class less the radius; not above 0: an outlier.
        neighbors_: (n, k) these neighbours, -1 where there are too few.
        local_clusters_: (n,) number of each row's local cluster.
        outliers_: rows whose k-th nearest of their class is not nearer than the nearest other.
        boundary_pairs_: (p, 2) rows that are each other's nearest of another class.
        mean_, scale_: (d,) of the features; 0 and 1 where they are not standardised.
        constant_: (d,) features that are left out.
        classes_: of y.
        n_iter_: rounds.

    Example:
        >>> from tupelo.tabular import rings
        >>> X, y = rings(60, np.random.default_rng(0))
        >>> metric = MIOMetric(n_neighbors=1, objective="count", solver="scipy").fit(X, y)
        >>> metric.report().errors_euclid, metric.report().errors
        (4, 0)
        >>> metric.classifier(1).score(X, y)
        1.0
    """

    @no_type_check  # what comes is checked when it is used, as scikit-learn asks
    def __init__(
        self,
        *,
        n_neighbors: int | None = None,
        atoms: str = "diag",
        objective: str = "hinge",
        margin: float = 1.0,
        distortion: float = 0.01,
        rho: float = 0.1,
        epsilon: float = 1e-3,
        radius_weight: float = 0.0,
        ramp_cost: float = 2.0,
        kappa: float | None = 1.5,
        escalate: bool = False,
        max_rounds: int | None = None,
        time_limit: float | None = 60.0,
        mip_gap: float = 1e-4,
        solver: str = "highs",
        standardize: bool = True,
        class_weight: str | Mapping | None = None,
        small_classes: str = "error",
        agglomerations: int = 1,
        warm_start: bool = False,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_neighbors = n_neighbors
        self.atoms = atoms
        self.objective = objective
        self.margin = margin
        self.distortion = distortion
        self.rho = rho
        self.epsilon = epsilon
        self.radius_weight = radius_weight
        self.ramp_cost = ramp_cost
        self.kappa = kappa
        self.escalate = escalate
        self.max_rounds = max_rounds
        self.time_limit = time_limit
        self.mip_gap = mip_gap
        self.solver = solver
        self.standardize = standardize
        self.class_weight = class_weight
        self.small_classes = small_classes
        self.agglomerations = agglomerations
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "MIOMetric":
        """Learn the metric. Ctrl-C keeps the best one found, and `report` says so.

        Args:
            X: (n, d) rows.
            y: n labels of two classes at least.

        Raises:
            InputError: a parameter outside its range; fewer than two classes; features that are
                all constant; too many for "dd" or "psd"; with "hinge", a class of k rows or
                fewer.
            MissingExtra: the solver is not installed.
            ValueError: rows with NaN, infinite or other unusable values, in scikit-learn's words.
        """
        began = time.perf_counter()
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        self.classes_, codes = classes_of(y, at_least=2)
        k = self._neighbours(codes)
        start = getattr(self, "weights_", None) if self.warm_start else None
        self._scale(X)
        Z = self._compared(X)
        found = learn(
            self._settings(k),
            Z,
            codes,
            costs=self._costs(codes),
            start=start,
            random_state=self.random_state,
            progress=_Line() if self.verbose else None,
        )
        self._fit_X, self._fit_y, self._fit_codes = X, np.asarray(y), codes
        self.atoms_, self.weights_, self.n_iter_ = found.family, found.w, found.rounds
        self._keep_maps()
        self._keep_structure(Z, codes, k)
        self._report = report_of(
            self.objective,
            self.atoms,
            found,
            errors_euclid=int(self._errors(self.atoms_.start, Z, codes, k).sum()),
            errors=int(self.errors_.sum()),
            samples=len(X),
            seconds=time.perf_counter() - began,
        )
        self._warn_of_collapse()
        return self

    def transform(self, X: Any) -> Float[ndarray, "n m"]:
        """Rows in the space where Euclidean distance is the learned one.

        With atoms "l1" it is the Manhattan distance of the result that equals D, whose square root
        `pair_distance` is.

        Args:
            X: (n, d) rows.

        Raises:
            InputError: atoms "l1+l2" or "l2+l4", whose distance has no such space.
        """
        check_is_fitted(self)
        return self._mapped(self._rows(X))

    def distances(self, X: Any, Z: Any = None) -> Float[ndarray, "n m"]:
        """Learned distances (square roots of D) of all rows with all others.

        Args:
            X: (n, d) rows.
            Z: (m, d) rows; None: the training rows.
        """
        check_is_fitted(self)
        return self._between(self._rows(X), self._fit_X if Z is None else self._rows(Z))

    def report(self) -> MIOReport:
        """How the fit ended, and what is proven."""
        check_is_fitted(self)
        return self._report

    def classifier(self, k: int = 3) -> Pipeline:
        """A fitted pipeline that classifies raw rows by their k nearest training rows.

        It keeps what is learned now: fitting the metric again does not change it.

        Args:
            k: neighbours, at most as many as there are training rows.

        Raises:
            InputError: k is no such number.
        """
        check_is_fitted(self)
        check_number("k", k, at_least=1, at_most=len(self._fit_X), whole=True)
        learner = deepcopy(self)
        if hasattr(self, "_maps"):
            learner.set_output(transform="default")  # votes know no names of features
            votes = KNeighborsClassifier(k, p=1 if self.atoms == "l1" else 2)
            votes.fit(self._mapped(self._fit_X), self._fit_y)
            return Pipeline([("metric", learner), ("votes", votes)])
        votes = KNeighborsClassifier(k, metric="precomputed")
        votes.fit(self._between(self._fit_X, self._fit_X), self._fit_y)
        return Pipeline([("metric", _Distances(learner)), ("votes", votes)])

    def regions(self) -> list[Region]:
        """Where labels would tell most: outliers first, then boundaries by their score."""
        check_is_fitted(self)
        near = self._structure.nearest
        known = Labelled(
            self._fit_X,
            self._fit_y,
            near.radius,
            near.gap,
            near.other[:, 0],
            self.outliers_,
            self.boundary_pairs_,
        )
        return regions(self._ruler(), known)

    def recommend(self, pool: Any = None, n: int = 10) -> list[Suggestion]:
        """What to label next, the most telling first.

        Args:
            pool: (p, d) rows that could be labelled; None: anything could, and the centres of
                regions are returned.
            n: at most so many.

        Raises:
            InputError: n < 1, or a pool of other features.
        """
        check_is_fitted(self)
        check_number("n", n, at_least=1, whole=True)
        ruler = self._ruler()
        if pool is None:
            return without_pool(self.regions(), ruler, self._fit_X, self._fit_codes, n)
        try:
            rows = self._rows(pool)
        except ValueError as error:
            raise InputError(f"pool must be rows like those that were fitted: {error}") from error
        doubt = uncertainty(ruler, self._fit_X, self._fit_codes, rows)
        return from_pool(self.regions(), rows, doubt, n)

    def uncertainty(self, X: Any) -> Float[ndarray, " n"]:
        """Distance to the nearest class over that to the second nearest; 1: in the middle.

        Args:
            X: (n, d) rows.
        """
        check_is_fitted(self)
        return uncertainty(self._ruler(), self._fit_X, self._fit_codes, self._rows(X))

    @property
    def _n_features_out(self) -> int:
        return len(self._embedding())

    def _rows(self, X: Any) -> Float[ndarray, "n d"]:
        return np.asarray(validate_data(self, X, reset=False, dtype=np.float64))

    def _mapped(self, X: Float[ndarray, "n d"]) -> Float[ndarray, "n m"]:
        return (X - self.mean_) / self.scale_ @ self._embedding().T

    def _between(self, X: Float[ndarray, "n d"], Z: Float[ndarray, "m d"]) -> ndarray:
        return np.sqrt(np.maximum(self._ruler().to_rows(X, Z), 0.0))

    def _embedding(self) -> Float[ndarray, "m d"]:
        if not hasattr(self, "_maps"):
            raise InputError(
                f"atoms {self.atoms!r} have no space in which the learned distance is Euclidean; "
                "use pair_distance, distances or get_metric"
            )
        return self._maps

    def _linear_map(self) -> Float[ndarray, "m d"]:
        if not hasattr(self, "components_"):
            raise InputError(
                f"atoms {self.atoms!r} are not quadratic, so there is no matrix M; use "
                "pair_distance, distances or get_metric"
            )
        return self.components_

    def _row_distances(
        self, left: Float[ndarray, "n d"], right: Float[ndarray, "n d"]
    ) -> Float[ndarray, " n"]:
        ruler = self._ruler()
        if ruler.quadratic:
            return euclidean(left @ ruler.maps.T, right @ ruler.maps.T)
        return np.sqrt(ruler.from_point(left - right, np.zeros(left.shape[1])))

    def _ruler(self) -> Ruler:
        """D of raw rows."""
        if hasattr(self, "components_"):
            maps = self.components_ / self.scale_
            return Ruler(maps, np.full(len(maps), 2))
        assert isinstance(self.atoms_, Atoms)  # noqa: S101
        used = self.weights_ > 0
        powers = self.atoms_.powers[used]
        factors = (self.weights_[used] / self.atoms_.scale[used]) ** (1 / powers)
        return Ruler(self._widened(factors[:, None] * self.atoms_.rows[used]) / self.scale_, powers)

    def _widened(self, maps: Float[ndarray, "m v"]) -> Float[ndarray, "m d"]:
        """With zeros for constant features."""
        found = np.zeros((len(maps), len(self.constant_)))
        found[:, ~self.constant_] = maps
        return found

    def _scale(self, X: Float[ndarray, "n d"]) -> None:
        mean, spread = X.mean(axis=0), X.std(axis=0)
        self.constant_ = ~(spread > CONSTANT * np.abs(X).max(axis=0))
        if self.constant_.all():
            raise InputError(
                f"X must have a feature that is not constant, all {X.shape[1]} are; there is "
                "nothing to learn a distance from"
            )
        if self.constant_.any():
            names = getattr(self, "feature_names_in_", np.arange(X.shape[1]))[self.constant_]
            warnings.warn(
                f"constant features are left out: {', '.join(map(str, names))}", stacklevel=3
            )
        scaled = np.where(self.constant_, 1.0, spread)
        self.mean_ = mean if self.standardize else np.zeros(X.shape[1])
        self.scale_ = scaled if self.standardize else np.ones(X.shape[1])

    def _compared(self, X: Float[ndarray, "n d"]) -> Float[ndarray, "n v"]:
        return ((X - self.mean_) / self.scale_)[:, ~self.constant_]

    def _keep_maps(self) -> None:
        for name in ("components_", "_maps"):
            if hasattr(self, name):
                delattr(self, name)
        if self.atoms_.quadratic:
            self.components_ = self._maps = self._widened(self.atoms_.components(self.weights_))
        elif self.atoms == "l1":
            assert isinstance(self.atoms_, Atoms)  # noqa: S101
            factors = self.weights_ / self.atoms_.scale
            self._maps = self._widened(factors[:, None] * self.atoms_.rows)

    def _keep_structure(self, Z: ndarray, codes: Int[ndarray, " n"], k: int) -> None:
        self._structure: Structure = structure(
            self.atoms_, self.weights_, Z, codes,
            k=wanted(k, self.objective == "majority")[0],
            rho=float(self.rho), epsilon=float(self.epsilon),
        )  # fmt: skip
        self.errors_ = self._errors(self.weights_, Z, codes, k)
        near = self._structure.nearest
        self.radii_, self.margins_, self.neighbors_ = near.radius, near.gap - near.radius, near.own
        self.local_clusters_ = self._structure.clusters
        self.outliers_ = self._structure.outliers
        self.boundary_pairs_ = self._structure.boundary_pairs

    def _warn_of_collapse(self) -> None:
        """Where classes overlap much, a hinge is smallest where all rows are alike."""
        alike = float((self._structure.nearest.gap <= 0.0).mean())
        if alike > COLLAPSED and self._report.errors > self._report.errors_euclid:
            warnings.warn(
                f"the metric collapsed: {alike:.0%} of the rows are at distance 0 from a row of "
                "another class. Classes overlap too much for this objective, which is then least "
                f"where all rows are alike; raise distortion (now {self.distortion:g}; try 0.1 "
                "and 1), leave out columns that are nearly constant, or take objective='count'",
                stacklevel=3,
            )

    def _errors(self, w: ndarray, Z: ndarray, codes: ndarray, k: int) -> ndarray:
        options = {"k": k, "rho": float(self.rho), "epsilon": float(self.epsilon)}
        if self.objective == "majority":
            assert isinstance(self.atoms_, Atoms)  # noqa: S101
            return evaluate(self.atoms_, w, Z, codes, majority=True, **options).errors
        return structure(self.atoms_, w, Z, codes, **options).errors

    def _neighbours(self, codes: Int[ndarray, " n"]) -> int:
        """k; refuses or warns of classes that are too small for it."""
        counts = np.bincount(codes)
        smallest = int(counts.argmin())
        k = self.n_neighbors
        if k is None:
            k = NEIGHBOURS[self.objective]
            if self.objective == "hinge":  # classes of one row are refused or ignored below
                k = min(k, int(counts[counts > 1].min(initial=k + 1)) - 1)
        need = wanted(k, self.objective == "majority")[0]
        if counts[smallest] > need:
            return k
        rows = "1 row" if counts[smallest] == 1 else f"{counts[smallest]} rows"
        said = (
            f"class {self.classes_[smallest]} has {rows}; with n_neighbors={k} a class needs "
            f"{need + 1}"
        )
        if self.objective != "hinge":
            warnings.warn(f"{said}: rows of smaller classes count as errors", stacklevel=3)
        elif self.small_classes == "error":
            raise InputError(
                f"{said}: lower n_neighbors, leave the class out, or give small_classes='ignore'"
            )
        return k

    def _costs(self, codes: Int[ndarray, " n"]) -> Float[ndarray, " n"] | None:
        if self.class_weight is None:
            return None
        if self.class_weight != "balanced" and not isinstance(self.class_weight, Mapping):
            raise InputError(
                f"class_weight must be 'balanced', weights by class, or None, got "
                f"{self.class_weight!r}"
            )
        costs = compute_sample_weight(self.class_weight, self.classes_[codes]).astype(np.float64)
        if not (costs > 0).all():
            raise InputError(f"class_weight must be > 0 for every class, got {self.class_weight}")
        return costs

    def _settings(self, k: int) -> Settings:
        return Settings(
            objective=self.objective,
            atoms=self.atoms,
            k=k,
            margin=float(self.margin),
            distortion=float(self.distortion),
            rho=float(self.rho),
            epsilon=float(self.epsilon),
            radius_weight=float(self.radius_weight),
            ramp_cost=float(self.ramp_cost),
            kappa=None if self.kappa is None else float(self.kappa),
            escalate=bool(self.escalate),
            max_rounds=ROUNDS[self.objective] if self.max_rounds is None else self.max_rounds,
            time_limit=None if self.time_limit is None else float(self.time_limit),
            mip_gap=float(self.mip_gap),
            solver=self.solver,
            agglomerations=self.agglomerations,
        )

    def _check_parameters(self) -> None:
        check_name("atoms", self.atoms, ATOMS)
        check_name("objective", self.objective, OBJECTIVES)
        check_name("small_classes", self.small_classes, ("error", "ignore"))
        check_solver(self.solver)
        for name in ("margin", "epsilon", "ramp_cost"):
            check_number(name, getattr(self, name), above=0)
        for name in ("distortion", "rho", "radius_weight", "mip_gap"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("agglomerations", self.agglomerations, at_least=1, whole=True)
        for name, above in (("kappa", 1), ("time_limit", 0)):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=above)
        for name in ("n_neighbors", "max_rounds"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), at_least=1, whole=True)
        if (
            self.objective == "majority"
            and self.n_neighbors is not None
            and self.n_neighbors % 2 == 0
        ):
            raise InputError(
                f"n_neighbors must be odd for objective 'majority', got {self.n_neighbors}"
            )
        if self.agglomerations > 1 and self.objective != "hinge":
            raise InputError(f"agglomerations > 1 needs objective 'hinge', got {self.objective!r}")


class _Distances(TransformerMixin, BaseEstimator):
    """Rows as their distances to the training rows, for `metric="precomputed"`.

    Args:
        learner: fitted.
    """

    def __init__(self, learner: MIOMetric):
        self.learner = learner

    def fit(self, X: Any, y: Any = None) -> "_Distances":
        """Nothing is left to learn."""
        return self

    def transform(self, X: Any) -> Float[ndarray, "n m"]:
        """(n, training rows)."""
        return self.learner.distances(X)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _Line:
    """Logs how far a fit is, at most once a second."""

    def __init__(self):
        self._last = -np.inf

    def __call__(self, state: SoftProgress | Progress) -> None:
        now = time.perf_counter()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        number = state.rounds + 1 if isinstance(state, SoftProgress) else state.round
        log.info(
            "round %d, %.0f s: objective %.6g, bound %.6g",
            number, state.seconds, state.objective, state.bound,
        )  # fmt: skip
