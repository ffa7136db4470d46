"""The scikit-learn estimator `ODML`."""

from operator import attrgetter
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tupelo.errors import InputError
from tupelo.tabular.inputs import check_name, check_number, unit_rows
from tupelo.tabular.metrics import LinearMetric, euclidean
from tupelo.tabular.online.activations import ACTIVATIONS
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import Layer
from tupelo.tabular.online.lego import LEGO
from tupelo.tabular.online.moml import MOML
from tupelo.tabular.online.opml import OPML
from tupelo.tabular.online.rdml import RDML
from tupelo.tabular.online.stack import Stack, forward
from tupelo.tabular.online.stream import Stream, rows_to_learn, unchanged, with_numba
from tupelo.tabular.online.triplets import NEGATIVES, SAMPLES, TRIPLETS

LAYERS: dict[str, type[Layer]] = {"opml": OPML, "moml": MOML, "lego": LEGO, "rdml": RDML}
# What a stream keeps from its first row on; the numbers of a step may change on the way.
LASTING = (
    *("n_layers", "layer", "activation", "strategy", "normalize", "negative", "cold_start"),
    *("random_state", "engine"),
)
CHANGING = (
    *("gamma", "gamma_pairs", "margin", "n_scans", "on_unstable", "exact_prox", "step", "targets"),
    *("eta", "local_weight", "weight_decay", "shuffle"),
)
_lasting, _changing = attrgetter(*LASTING), attrgetter(*CHANGING)


class ODML(LinearMetric, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Online deep metric learning: a stack of metric layers, learned from a stream in one pass.

    Every sample forms at most one triplet with remembered ones, and every layer learns from it by a
    step of its own, of O(d^2); layers are joined by an activation. One layer "opml" is OPML, one
    layer "moml" is MOML. Memory: the layers and one row per class.

    Source: Li et al., "MLOML: Multi-layer online metric learning", IEEE TNNLS 34, 2023 (ODML in
    arXiv 1805.05510v1); layer "opml": Li et al., Pattern Recognition 75, 2018.

    Args:
        n_layers: metric layers, each (d, d), >= 1.
        layer: "opml" closed-form step on L; "moml" the step on M of the paper; "lego", "rdml" learn
            from pairs; or a class derived from `layers.Layer`, which runs in NumPy.
        activation: "relu", "tanh", "sigmoid" between two layers; "identity" leaves a linear map.
        strategy: "fp" each layer learns and passes on what it then gives; "bp" gradient steps of
            the whole stack; "fbp" one after the other.
        gamma: rate of the layers' steps, > 0. For unit rows below 1/4; 1e-4 to 1e-1 are worth a
            search. Deeper stacks want smaller ones.
        margin: of the hinges, > 0; 1 suits rows of unit length.
        n_scans: passes over the data in `fit`, >= 1; 1 is strictly one pass, the paper has 20.
        normalize: "l2" divides every row by its length, in learning and in `transform`; None.
        negative: whom a triplet takes when the previous sample is of the same class: "author",
            "latest" or "random", see `triplets.Memory`.
        on_unstable: what OPML does where gamma |x - x_q|^2 >= 1: "shrink" its rate for this step,
            or "raise".
        exact_prox: OPML stops at the exact minimum where a whole step would pass it.
        step: of MOML: "paper" is gamma; "pa" at most what makes the hinge 0.
        cold_start: while only one class is known, learn from pairs of it (COPML).
        gamma_pairs: rate of these steps, > 0.
        targets: squared distances that "lego" pulls pairs of one class and of two classes towards,
            >= 0, the second larger.
        eta: rate of the gradient steps of "bp" and "fbp", > 0.
        local_weight: weight of the layers' own hinges in the gradient, >= 0; None: 1 / n_layers; 0:
            only the hinge of the output counts.
        weight_decay: of the gradient steps, >= 0.
        shuffle: scans after the first take the rows in random order.
        random_state: of scans and of random negatives.
        engine: "numba", "numpy", or "auto". They agree but for rounding: to 1e-12 of L, unless
            unstable steps, which magnify it.

    Attributes:
        layers_: list of L_i (d, d).
        components_: L, where the map is linear: one layer, or no activation.
        classes_: labels seen so far, or announced, in order.
        n_samples_seen_: rows learned from, all scans counted.
        n_triplets_: formed of them.
        n_updates_: of each layer, triplets that were active, and pairs of a cold start.
        n_unstable_: of each layer, steps shrunk (OPML) or projected (MOML, RDML).
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Example:
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> from tupelo.tabular import balance_scale
        >>> X, y = balance_scale()
        >>> order = np.random.default_rng(0).permutation(len(X))
        >>> train, test = order[:312], order[312:]
        >>> model = make_pipeline(ODML(1, n_scans=20, random_state=0), KNeighborsClassifier())
        >>> round(model.fit(X[train], y[train]).score(X[test], y[test]), 2)
        0.95
        >>> round(KNeighborsClassifier().fit(X[train], y[train]).score(X[test], y[test]), 2)
        0.82
    """

    _stream: Stream

    @no_type_check  # what comes is checked when it is used, as scikit-learn asks
    def __init__(
        self,
        n_layers: int = 3,
        *,
        layer: Any = "opml",
        activation: str = "relu",
        strategy: str = "fp",
        gamma: float = 1e-2,
        margin: float = 1.0,
        n_scans: int = 1,
        normalize: str | None = "l2",
        negative: str = "author",
        on_unstable: str = "shrink",
        exact_prox: bool = False,
        step: str = "paper",
        cold_start: bool = False,
        gamma_pairs: float = 1e-3,
        targets: tuple[float, float] = (0.1, 1.0),
        eta: float = 1e-3,
        local_weight: float | None = None,
        weight_decay: float = 1e-4,
        shuffle: bool = True,
        random_state: Any = None,
        engine: str = "auto",
    ):
        self.n_layers = n_layers
        self.layer = layer
        self.activation = activation
        self.strategy = strategy
        self.gamma = gamma
        self.margin = margin
        self.n_scans = n_scans
        self.normalize = normalize
        self.negative = negative
        self.on_unstable = on_unstable
        self.exact_prox = exact_prox
        self.step = step
        self.cold_start = cold_start
        self.gamma_pairs = gamma_pairs
        self.targets = targets
        self.eta = eta
        self.local_weight = local_weight
        self.weight_decay = weight_decay
        self.shuffle = shuffle
        self.random_state = random_state
        self.engine = engine

    def fit(self, X: Any, y: Any) -> "ODML":
        """Learn from the beginning, in `n_scans` passes.

        Args:
            X: (n, d) numbers, rows in the order of the stream; arrays or data frames.
            y: n labels.

        Raises:
            InputError: an option out of its range, or a row of zeros to be divided by its length.
            ValueError: y missing or continuous, X with NaN or infinity, or sparse.
            FloatingPointError: a layer became infinite or NaN.
        """
        options = self._options()
        X, y = rows_to_learn(self, X, y, first=True)
        rng = check_random_state(self.random_state)
        self._begin(X.shape[1], rng, options)
        self._stream.learn_scans(X, y, options, self.n_scans, self.shuffle, rng)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "ODML":
        """Go on with the stream; however it is cut, the same is learned, to the last bit.

        Rows that come as float64 arrays are only looked at for NaN, infinity and zeros, which takes
        little more than learning from them; data frames and lists go through scikit-learn's checks.

        Args:
            X: (n, d) rows.
            y: n labels; new classes may come at any time.
            classes: labels that may come, for `classes_`; not needed.

        Raises:
            InputError: as `fit`; `n_scans` above 1; or an option that a stream keeps has changed.
            ValueError, FloatingPointError: as `fit`.
        """
        options = self._options_of_stream()
        if self.n_scans != 1:
            raise InputError(
                f"n_scans={self.n_scans} needs all rows at once: call fit, or partial_fit with "
                "n_scans=1 for each pass"
            )
        first = not self.__sklearn_is_fitted__()
        X, y = rows_to_learn(self, X, y, first=first, streaming=True, classes=classes)
        if first:
            self._begin(X.shape[1], check_random_state(self.random_state), options)
        if classes is not None:
            self._stream.announce(classes)
        self._stream.learn(X, y, options)
        return self

    def transform(self, X: Any) -> Float[ndarray, "n d"]:
        """Rows in the learned space, where Euclidean distances are the learned ones.

        Args:
            X: (n, d) rows.

        Raises:
            InputError: a row of zeros, where rows are divided by their length.
            ValueError: NaN, infinity, or another number of features.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._embedded(X)

    def transform_layer(self, X: Any, depth: int) -> Float[ndarray, "n d"]:
        """Rows as a stack of the first layers only would map them.

        Args:
            X: (n, d) rows.
            depth: layers, from 1 to `n_layers`; `n_layers` is `transform`.

        Raises:
            InputError: no such depth; and as `transform`.
        """
        check_is_fitted(self)
        check_number("depth", depth, at_least=1, at_most=len(self.layers_), whole=True)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._embedded(X, depth)

    @property
    def layers_(self) -> list[Float[ndarray, "d d"]]:
        """L of every layer; copies."""
        return self._learned().learner.maps()

    @property
    def components_(self) -> Float[ndarray, "d d"]:
        """L, where the whole map is linear."""
        self._learned()
        try:
            return self._linear_map()
        except InputError as error:
            raise AttributeError(str(error)) from None

    @property
    def classes_(self) -> ndarray:
        """Labels seen so far, or announced, in order."""
        return self._learned().classes

    @property
    def n_samples_seen_(self) -> int:
        """Rows learned from, all scans counted."""
        return int(self._learned().memory.counts[SAMPLES])

    @property
    def n_triplets_(self) -> int:
        """Triplets formed."""
        return int(self._learned().memory.counts[TRIPLETS])

    @property
    def n_updates_(self) -> Int[ndarray, " n"]:
        """Of each layer, triplets that were active."""
        return np.array(self._learned().learner.n_updates)

    @property
    def n_unstable_(self) -> Int[ndarray, " n"]:
        """Of each layer, steps that were made safe."""
        return np.array(self._learned().learner.n_unstable)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_  # pyright: ignore[reportAttributeAccessIssue]

    def __sklearn_is_fitted__(self) -> bool:
        return "_stream" in self.__dict__

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _learned(self) -> Stream:
        if not self.__sklearn_is_fitted__():
            raise AttributeError("nothing is learned yet: call fit or partial_fit first")
        return self._stream

    def _begin(self, d: int, rng: np.random.RandomState, options: Options) -> None:
        """An untrained stack."""
        shape = self.n_layers, d, self.activation, self.strategy
        if isinstance(self.layer, type):
            learner = Stack(self.layer, *shape)
        elif with_numba(self.engine):
            from tupelo.tabular.online.engine import CompiledStack

            learner = CompiledStack(self.layer, *shape)
        else:
            learner = Stack(LAYERS[self.layer], *shape)
        seed = int(rng.randint(2**31 - 1))
        unit = self.normalize == "l2"
        self._stream = Stream(learner, unit, self.negative, self.cold_start, seed)
        self._stream.numbers, self._stream.options = _changing(self), options
        self._began_with = _lasting(self)

    def _options(self) -> Options:
        """The numbers of a step.

        Raises:
            InputError: an option is out of its range.
        """
        if not isinstance(self.layer, type) or not issubclass(self.layer, Layer):
            check_name("layer", self.layer, LAYERS)
        elif self.engine == "numba":
            raise InputError(
                f"layer={self.layer.__name__} is a class of its own, which engine='numba' does not "
                "compile; use engine='numpy' or 'auto'"
            )
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("strategy", self.strategy, ("fp", "bp", "fbp"))
        check_name("normalize", self.normalize, ("l2", None))
        check_name("negative", self.negative, NEGATIVES)
        check_name("on_unstable", self.on_unstable, ("shrink", "raise"))
        check_name("step", self.step, ("paper", "pa"))
        check_name("engine", self.engine, ("auto", "numba", "numpy"))
        check_number("n_layers", self.n_layers, at_least=1, whole=True)
        check_number("n_scans", self.n_scans, at_least=1, whole=True)
        for name in ("gamma", "margin", "gamma_pairs", "eta"):
            check_number(name, getattr(self, name), above=0)
        local = 1.0 / self.n_layers if self.local_weight is None else self.local_weight
        check_number("local_weight", local, at_least=0)
        check_number("weight_decay", self.weight_decay, at_least=0)
        if not isinstance(self.targets, tuple | list) or len(self.targets) != 2:
            raise InputError(
                f"targets must be two squared distances, of one class and of two, got "
                f"{self.targets!r}"
            )
        near, far = self.targets
        check_number("targets[0]", near, at_least=0)
        check_number("targets[1]", far, above=near)
        return Options(
            *(float(self.gamma), float(self.gamma_pairs), float(self.margin)),
            *(self.on_unstable == "shrink", bool(self.exact_prox), self.step == "pa"),
            *(float(near), float(far), float(self.eta), float(local), float(self.weight_decay)),
        )

    def _options_of_stream(self) -> Options:
        """The numbers of a step; what has not changed since the last call is not checked again.

        Raises:
            InputError: as `_options`; or an option has changed that a stream keeps.
        """
        if not self.__sklearn_is_fitted__():
            return self._options()
        kept, numbers = _lasting(self), _changing(self)
        unchanged(LASTING, self._began_with, kept)
        if numbers != self._stream.numbers:
            self._stream.numbers, self._stream.options = numbers, self._options()
        return self._stream.options

    def _embedded(self, X: Float[ndarray, "n d"], depth: int | None = None) -> ndarray:
        """Checked rows as the first layers map them."""
        stream = self._stream
        rows = unit_rows(X) if stream.unit else X
        return forward(rows, stream.learner.maps()[:depth], stream.learner.activation)

    def _row_distances(self, left: ndarray, right: ndarray) -> ndarray:
        return euclidean(self._embedded(left), self._embedded(right))

    def _linear_map(self) -> Float[ndarray, "d d"]:
        maps = self.layers_
        if len(maps) > 1 and self._stream.learner.activation != "identity":
            raise InputError(
                f"a stack of {len(maps)} layers with {self._stream.learner.activation} between "
                "them has no matrix: use pair_distance, or layers_[i].T @ layers_[i] of one layer"
            )
        whole = maps[0]
        for linear in maps[1:]:
            whole = linear @ whole
        return whole
