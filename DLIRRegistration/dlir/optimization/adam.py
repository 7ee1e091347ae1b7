"""Adam (Kingma and Ba 2015) for one tensor: torch's own takes three seconds to load, as much as some pairs need."""

from __future__ import annotations

import torch
from torch import Tensor

_BETAS, _SMALL = (0.9, 0.95), 1e-8


class Adam:
    """Makes `parameters`, which need a gradient, such that a loss gets smaller. rate: of the next steps."""

    def __init__(self, parameters: Tensor, rate: float) -> None:
        self._parameters, self.rate = parameters, rate
        self._mean, self._square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """In place."""
        self._steps += 1
        first, second = _BETAS
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (self._square / (1 - second**self._steps)).sqrt_().add_(_SMALL)
        self._parameters.addcdiv_(self._mean, scale, value=-self.rate / (1 - first**self._steps))
