"""A network whose weights are given with each call, as one vector in a fixed order."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from tupelo.errors import InputError

Statistics = dict[str, Tensor]
"""Running mean and variance of batch normalisation, by name; changed in place by a call."""


class VectorNetwork(nn.Module):
    """A network without weights of its own, but for those that all tasks share.

    Its weights lie in one vector, in the order of `order`; weights of convolutions with channels
    last, so that their slices are what the fast convolutions take.

    Args:
        network: copied; the original is left alone.
        shared: names of parameters that are not part of the vector but stay parameters; None: no
            name. Parameters that need no gradient are left where they are too.
        bn_momentum: weight of a new batch in the running statistics, in (0, 1].

    Attributes:
        order: name and shape of each parameter in the vector.
        size: length of the vector, P.
        normalises: whether there is batch normalisation with running statistics.

    Raises:
        InputError: no parameter is left for the vector, or `bn_momentum` is outside its range.

    >>> network = VectorNetwork(nn.Linear(3, 2))
    >>> network.size, network(torch.zeros(8), {}, True, torch.ones(1, 3)).tolist()
    (8, [[0.0, 0.0]])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        shared: Callable[[str], bool] | None = None,
        bn_momentum: float = 0.95,
    ):
        super().__init__()
        if not 0 < bn_momentum <= 1:
            raise InputError(f"bn_momentum must be in (0, 1], got {bn_momentum}")
        self.bn_momentum = bn_momentum
        self.network = copy.deepcopy(network)
        self.order: tuple[tuple[str, tuple[int, ...]], ...] = ()
        begin = []
        for name, parameter in list(self.network.named_parameters()):
            if parameter.requires_grad and not (shared is not None and shared(name)):
                self.order += ((name, tuple(parameter.shape)),)
                begin.append(_laid_out(parameter.detach()).flatten().clone())
                _release(self.network, name)
        if not begin:
            raise InputError("network must have parameters that are not shared, got none")
        self._begin = torch.cat(begin)
        self.size = len(self._begin)
        self._sizes = [math.prod(shape) for _, shape in self.order]
        self._normalisations = {
            name: module
            for name, module in self.network.named_modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
        }
        self.normalises = bool(self._normalisations)
        for module in self._normalisations.values():
            module.momentum = bn_momentum

    def initial(self) -> Float[Tensor, " p"]:
        """The weights that the network came with."""
        return self._begin.clone()

    def weights(self, theta: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """Views of the vector by name.

        Raises:
            InputError: the vector has another length.
        """
        if theta.shape != (self.size,):
            raise InputError(
                f"theta must have one number for each of the {self.size} parameters of the "
                f"network, got {tuple(theta.shape)}; was it saved with another network?"
            )
        # one split, not many slices: its gradient is one concatenation
        parts = theta.split(self._sizes)
        return {
            name: _viewed(part, shape)
            for (name, shape), part in zip(self.order, parts, strict=True)
        }

    def fresh_statistics(self) -> Statistics:
        """Running statistics before any batch: mean 0, variance 1."""
        found = {}
        for name, module in self._normalisations.items():
            prefix = f"{name}." if name else ""
            for key, value in (("running_mean", 0.0), ("running_var", 1.0)):
                found[f"{prefix}{key}"] = torch.full_like(getattr(module, key), value)
            seen = cast(Tensor, module.num_batches_tracked)
            found[f"{prefix}num_batches_tracked"] = torch.zeros_like(seen)
        return found

    def forward(
        self,
        theta: Float[Tensor, " p"],
        statistics: Statistics,
        of_batch: bool,
        *inputs: Any,
    ) -> Any:
        """What the network makes of inputs with these weights.

        Args:
            theta: its weights.
            statistics: of batch normalisation.
            of_batch: as in training: normalise by the statistics of this batch, which are then
                taken into `statistics`, and let dropout drop; else by `statistics`.
            inputs: of the network.
        """
        self.network.train(of_batch)
        return functional_call(self.network, {**self.weights(theta), **statistics}, inputs)

    def in_use(
        self,
        theta: Float[Tensor, " p"],
        statistics: Statistics,
        of_batch: bool,
        *inputs: Any,
    ) -> Any:
        """The same without gradient, where nothing drops and `statistics` stay as they are."""
        kept = {name: value.clone() for name, value in statistics.items()}
        return self._evaluated(theta, kept, of_batch, inputs)

    def measured(self, theta: Float[Tensor, " p"], *inputs: Any) -> Statistics:
        """Statistics of these inputs alone."""
        found = self.fresh_statistics()
        modules = list(self._normalisations.values())
        momenta = [module.momentum for module in modules]
        try:
            for module in modules:
                module.momentum = 1.0
            self._evaluated(theta, found, True, inputs)
        finally:
            for module, momentum in zip(modules, momenta, strict=True):
                module.momentum = momentum
        return found

    @torch.no_grad()
    def _evaluated(self, theta: Tensor, statistics: Statistics, of_batch: bool, inputs: Any) -> Any:
        self.network.eval()
        for module in self._normalisations.values():
            module.train(of_batch)
        return functional_call(self.network, {**self.weights(theta), **statistics}, inputs)


@contextmanager
def by_batch(network: nn.Module) -> Iterator[None]:
    """Batch normalisation by the batch; other layers, and running statistics, stay as they are."""
    modules = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [
        (module, module.training, [buffer.clone() for buffer in module.buffers()])
        for module in modules
    ]
    try:
        for module in modules:
            module.train()
        yield
    finally:
        for module, mode, buffers in before:
            module.train(mode)
            for buffer, value in zip(module.buffers(), buffers, strict=True):
                buffer.copy_(value)


def _laid_out(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight


def _viewed(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) != 4:
        return part.view(shape)
    out, into, height, width = shape
    return part.view(out, height, width, into).permute(0, 3, 1, 2)


def _release(network: nn.Module, name: str) -> None:
    """A parameter becomes a buffer without a place in the state, whose value nobody reads."""
    path, _, own = name.rpartition(".")
    module = network.get_submodule(path)
    value = module._parameters.pop(own)
    module.register_buffer(own, torch.empty_like(cast(Tensor, value)), persistent=False)
    if isinstance(module, nn.RNNBase) and not module._forward_pre_hooks:
        module.register_forward_pre_hook(_look_again)


def _look_again(module: nn.RNNBase, _inputs: tuple) -> None:
    """An LSTM keeps its weights in a list too, which a functional call does not know."""
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
