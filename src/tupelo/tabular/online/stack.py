"""The stack of layers in plain NumPy: forward map, and learning from one triplet at a time."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from tupelo.tabular.online.activations import ACTIVATIONS
from tupelo.tabular.online.backward import backward_step
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.layers import Layer, Row, diverged
from tupelo.tabular.online.triplets import TRIPLETS, Memory, unit_row


def forward(
    rows: Float[ndarray, "n d"], maps: list[Float[ndarray, "d d"]], activation: str
) -> Float[ndarray, "n d"]:
    """L_n act(... act(L_1 x)): an activation between layers, none behind the last.

    >>> forward(np.array([[1.0, -1.0]]), [np.eye(2), np.eye(2)], "relu")
    array([[1., 0.]])
    """
    act = ACTIVATIONS[activation].value
    for i, linear in enumerate(maps):
        rows = (rows if i == 0 else act(rows)) @ linear.T
    return rows


class Stack:
    """Layers, one behind the other, each with a hinge of its own.

    Args:
        kind: class of the layers.
        n_layers: how many.
        d: features.
        activation: between two of them.
        strategy: "fp" each layer learns from what the updated one before it passes on; "bp"
            gradient steps; "fbp" both, in this order.
    """

    def __init__(self, kind: type[Layer], n_layers: int, d: int, activation: str, strategy: str):
        self.layers = [kind(d) for _ in range(n_layers)]
        self.activation, self.strategy = activation, strategy
        self.width = d

    def learn(
        self,
        X: Float[ndarray, "n d"],
        codes: Int[ndarray, " n"],
        memory: Memory,
        options: Options,
        *,
        unit: bool,
    ) -> None:
        """Learn from rows in their order.

        Args:
            X, codes: rows and the numbers of their classes.
            memory: forms the triplets.
            options: numbers of the steps.
            unit: divide rows by their length.

        Raises:
            FloatingPointError: a layer became infinite or NaN.
            InputError: a step is unstable, and is to be refused.
        """
        paired = options._replace(gamma=options.gamma_pairs)
        with np.errstate(over="ignore", invalid="ignore"):
            for row, code in zip(X, codes.tolist(), strict=True):
                # a copy: products of rows that lie otherwise in memory may differ in the last bit
                x = unit_row(row.copy()) if unit else row.copy()
                found = memory.pair_up(x, code)
                if found is None:
                    continue
                p, q, pair = found
                try:
                    self.step(x, p, q, paired if pair else options)
                except FloatingPointError:
                    raise diverged(options, self.strategy, int(memory.counts[TRIPLETS])) from None

    def step(self, x: Row, p: Row, q: Row, options: Options) -> None:
        """Learn from one triplet."""
        if self.strategy != "bp":
            self._forward_step(x, p, q, options)
        if self.strategy != "fp":
            active = backward_step(
                self.layers, ACTIVATIONS[self.activation], np.stack([x, p, q]), options
            )
            for layer, hit in zip(self.layers, active, strict=True):
                layer.n_updates += hit and self.strategy == "bp"
                if self.strategy == "fbp":
                    layer.moved()

    def _forward_step(self, x: Row, p: Row, q: Row, options: Options) -> None:
        for i, layer in enumerate(self.layers):
            if i:
                x, p, q = (
                    ACTIVATIONS[self.activation].value(self.layers[i - 1].L @ h) for h in (x, p, q)
                )
            layer.update(x, p, q, options)

    def maps(self) -> list[Float[ndarray, "d d"]]:
        """Copies of L of every layer."""
        return [layer.L.copy() for layer in self.layers]

    @property
    def n_updates(self) -> list[int]:
        """Of every layer, triplets that changed it."""
        return [layer.n_updates for layer in self.layers]

    @property
    def n_unstable(self) -> list[int]:
        """Of every layer, steps that were made safe."""
        return [layer.n_unstable for layer in self.layers]
