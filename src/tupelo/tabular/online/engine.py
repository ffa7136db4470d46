"""The stack of layers on compiled loops; imported late, for numba is slow to load."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.tabular.online import loops, matmul
from tupelo.tabular.online.activations import ACTIVATIONS
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import diverged, inverse_of, projected_root, refused
from tupelo.tabular.online.triplets import TRIPLETS, Memory

KEPT = ("layer", "d", "activation", "strategy", "_activation", "width")
WITH_INVERSE = ("moml", "rdml")
GROUP_BYTES = 1 << 17  # of triplets that one layer takes before the next does


def _forward_loop(layer: str) -> Callable:
    """The loop of a layer, which is compiled when first called."""
    if layer == "opml":
        from tupelo.tabular.online.loops_opml import forward_opml

        return forward_opml
    if layer == "moml":
        from tupelo.tabular.online.loops_moml import moml_layer

        return moml_layer
    from tupelo.tabular.online.loops_pairs import forward_lego, rdml_layer

    return forward_lego if layer == "lego" else rdml_layer


class CompiledStack:
    """What `Stack` is, with the same results but for rounding.

    Args:
        layer: "opml", "moml", "lego" or "rdml".
        n_layers: how many.
        d: features.
        activation: between two of them.
        strategy: "fp", "bp" or "fbp".
    """

    def __init__(self, layer: str, n_layers: int, d: int, activation: str, strategy: str):
        self.layer, self.d = layer, d
        self.activation, self.strategy = activation, strategy
        self._activation = ACTIVATIONS[activation].code
        self.width = matmul.width_for(d)
        one = np.stack([matmul.to_panels(np.eye(d))] * n_layers)
        self._layers = loops.Layers(
            one,
            one.copy() if layer in WITH_INVERSE else one[:0].copy(),
            np.zeros((n_layers, 4, 2, self.width)),
            np.zeros((n_layers, 6), np.int64),
        )
        self._make_room()

    def _make_room(self) -> None:
        n = len(self._layers.maps)
        size = max(16, GROUP_BYTES // (24 * self.width))
        self._group = loops.Group(np.zeros((3 * size, self.width)), np.zeros(size, bool))
        self._one = loops.Group(np.zeros((3, self.width)), np.zeros(1, bool))
        self._products = np.zeros((3, self.width))
        self._inverse_products = np.zeros((5, self.width))
        self._inputs, self._outputs = np.zeros((2, n, 3, self.width))
        self._back, self._step = np.zeros((2, 3, self.width))
        self._loop = _forward_loop(self.layer)

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in KEPT} | {"_layers": tuple(self._layers)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._layers = loops.Layers(*state["_layers"])
        self._make_room()

    def learn(
        self,
        X: Float[ndarray, "n d"],
        codes: Int[ndarray, " n"],
        memory: Memory,
        options: Options,
        *,
        unit: bool,
    ) -> None:
        """As `Stack.learn`."""
        done = 0
        while done < len(X):
            before = int(memory.counts[TRIPLETS])
            done, m = loops.collect(
                *(X, codes, done, memory.latest, memory.counts, memory.negative),
                *(memory.cold_start, unit, self.strategy == "fp", self._group),
            )
            if m == 0:
                continue
            ended, t = self._learn_group(m, options)
            if ended == loops.INFINITE:
                pairs = int(self._group.pair[:t].sum())
                raise diverged(options, self.strategy, before + t + 1 - pairs)
            if ended == loops.TOO_LARGE:
                raise refused(options.gamma)

    def _learn_group(self, m: int, options: Options) -> tuple[int, int]:
        if self.strategy == "fp":
            return self._forward(self._group, m, options)
        if self.strategy == "bp":
            return self._backward(0, m, options)
        from tupelo.tabular.online.loops_backward import differences

        for t in range(m):
            differences(self._group.rows, t, self._one.rows)
            self._one.pair[0] = self._group.pair[t]
            ended, _ = self._forward(self._one, 1, options)
            if ended != loops.DONE:
                return ended, t
            self._apply_waiting()
            ended, _ = self._backward(t, 1, options)
            if ended != loops.DONE:
                return ended, t
            try:
                for i in range(len(self._layers.inverses)):
                    self._renew_inverse(i)
            except FloatingPointError:
                return loops.INFINITE, t
        return loops.DONE, -1

    def _forward(self, group: loops.Group, m: int, options: Options) -> tuple[int, int]:
        rest = options, self.d, self._activation
        if self.layer not in WITH_INVERSE:
            return self._loop(self._layers, group, m, self._products, *rest)
        last = len(self._layers.maps) - 1
        for i in range(last + 1):
            ended, t = self._forward_one(i, group, m, options, i < last)
            if ended != loops.DONE:
                return ended, t
            if i < last:
                loops.activate(group.rows, m, self.d, self._activation)
        return loops.DONE, -1

    def _forward_one(
        self, i: int, group: loops.Group, m: int, options: Options, passed_on: bool
    ) -> tuple[int, int]:
        """A layer that keeps an inverse: what needs eigenvalues is done between two loops."""
        layer = tuple(part[i] for part in self._layers)
        pairs = self.layer == "rdml"
        start = 0
        while True:
            ended, at, rate = self._loop(
                *(*layer, group.rows, group.pair, start, m, self._products),
                *(self._inverse_products, options, self.d, passed_on),
            )
            t = at // 2 if pairs else at
            if ended not in (loops.INVERT, loops.PROJECT):
                return ended, t
            try:
                if ended == loops.INVERT:
                    self._renew_inverse(i)
                else:
                    a, b = group.rows[3 * t + 1 : 3 * t + 3, : self.d]
                    s = (a, b)[at % 2]
                    M = -np.outer(s, s) if pairs else np.outer(b, b) - np.outer(a, a)
                    self._project(i, rate * M)
            except FloatingPointError:
                return loops.INFINITE, t
            # what the loop does behind a step, if it has not been done
            if passed_on and (at % 2 == 1 if pairs else ended == loops.PROJECT):
                loops.map_triplet(layer[0], group.rows, t, self._products, self.d)
            start = at + 1

    def _project(self, i: int, change: Float[ndarray, "d d"]) -> None:
        maps, inverses, _, counts = self._layers
        L = matmul.from_panels(maps[i], self.d).T
        L, K = projected_root(L.T @ L + change)
        maps[i], inverses[i] = matmul.to_panels(L.T), matmul.to_panels(K)
        counts[i, loops.UNSTABLE] += 1

    def _renew_inverse(self, i: int) -> None:
        L = matmul.from_panels(self._layers.maps[i], self.d).T
        self._layers.inverses[i] = matmul.to_panels(inverse_of(L))

    def _backward(self, first: int, m: int, options: Options) -> tuple[int, int]:
        from tupelo.tabular.online.loops_backward import backward

        return backward(
            *(self._layers, self._group.rows, first, m, self._inputs, self._outputs),
            *(self._back, self._step, self.strategy == "bp", options, self.d, self._activation),
        )

    def _apply_waiting(self) -> None:
        maps, inverses, changes, counts = self._layers
        for i in range(len(maps)):
            for B, at, flag in ((maps, 0, loops.WAITING), (inverses, 2, loops.INVERSE_WAITING)):
                if counts[i, flag]:
                    matmul.add_outer(B[i], self.d, changes[i, at], changes[i, at + 1], 2)
                    counts[i, flag] = 0

    def maps(self) -> list[Float[ndarray, "d d"]]:
        """Copies of L of every layer, with the change that waits."""
        found = []
        for B, changes, counts in zip(
            self._layers.maps, self._layers.changes, self._layers.counts, strict=True
        ):
            full = B
            if counts[loops.WAITING]:
                full = B.copy()
                matmul.add_outer(full, self.d, changes[0], changes[1], 2)
            found.append(np.ascontiguousarray(matmul.from_panels(full, self.d).T))
        return found

    @property
    def n_updates(self) -> list[int]:
        """Of every layer, triplets that changed it."""
        return self._layers.counts[:, loops.UPDATES].tolist()

    @property
    def n_unstable(self) -> list[int]:
        """Of every layer, steps that were made safe."""
        return self._layers.counts[:, loops.UNSTABLE].tolist()
