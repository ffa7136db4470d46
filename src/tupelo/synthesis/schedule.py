"""How hard synthetic negatives are and how much they weigh, from what training has come to."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tupelo.synthesis.pulling import adaptive

UNKNOWN = 1e6  # both running means before their first window
START = 0.5  # lambda and w right after calibration


class Schedule(nn.Module):
    """lambda = exp(-alpha / J_avg) and w = exp(-beta / J_gen_avg), from running means.

    Args:
        alpha: >= 0.
        beta: >= 0.
        window: steps whose mean sets J_avg and J_gen_avg.
        calibrate: steps with w = 1, after which alpha and beta are set so that lambda and w are
            1/2 at the means over the second half of these steps; 0 for none.
    """

    constants: Tensor
    steps: Tensor

    def __init__(self, alpha: float, beta: float, *, window: int, calibrate: int):
        super().__init__()
        self.window, self.calibrate = window, calibrate
        self.j_avg, self.j_gen_avg = WindowMean(UNKNOWN), WindowMean(UNKNOWN)
        self.register_buffer("constants", torch.tensor([float(alpha), float(beta)]))
        self.register_buffer("steps", torch.tensor(0))

    def hardness(self) -> Float[Tensor, ""]:
        """lambda of the next step."""
        return adaptive(self.constants[0], self.j_avg.value)

    def weight(self) -> Float[Tensor, ""]:
        """w of the next step."""
        if self._calibrating():
            return torch.ones_like(self.constants[1])
        return adaptive(self.constants[1], self.j_gen_avg.value)

    @torch.no_grad()
    def record(self, metric: Float[Tensor, ""], generator: Float[Tensor, ""]) -> None:
        """Take in J_m and J_gen of one step, both finite."""
        first, window = 0, self.window
        if self._calibrating():  # the first half shows how training starts, not where it stands
            first, window = self.calibrate // 2, self.calibrate - self.calibrate // 2
        if not first or int(self.steps) >= first:
            self.j_avg.record(metric, window)
            self.j_gen_avg.record(generator, window)
        self.steps += 1
        if self.calibrate and int(self.steps) == self.calibrate:
            for constant, mean in zip(self.constants, (self.j_avg, self.j_gen_avg), strict=True):
                if mean.value > 0:
                    constant.copy_(-math.log(START) * mean.value)

    def _calibrating(self) -> bool:
        return self.calibrate > 0 and int(self.steps) < self.calibrate


class WindowMean(nn.Module):
    """The mean of the last completed window of recorded numbers, in buffers.

    Args:
        start: value before the first window is complete.
    """

    value: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, start: float):
        super().__init__()
        self.register_buffer("value", torch.tensor(start))
        self.register_buffer("total", torch.tensor(0.0))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def record(self, number: Float[Tensor, ""], window: int) -> None:
        """Take in a finite number; a window of so many sets the value."""
        self.total += number
        self.count += 1
        if int(self.count) >= window:
            self.value.copy_(self.total / self.count)
            self.total.zero_()
            self.count.zero_()
