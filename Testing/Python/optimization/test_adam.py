"""The steps are those of torch's own Adam."""

from __future__ import annotations

import torch

from dlir.optimization.adam import Adam


def test_it_steps_as_torchs_does() -> None:
    """With a rate that changes, gradients of any size, and some that are nothing."""
    generator = torch.Generator().manual_seed(0)
    begun = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    ours, theirs = (begun.clone().requires_grad_() for _ in range(2))
    own, reference = Adam(ours, 0.1), torch.optim.Adam([theirs], 0.1, betas=(0.9, 0.95))
    for step in range(20):
        own.rate = reference.param_groups[0]["lr"] = 0.1 * 0.8**step
        gradient = torch.randn(4, 5, dtype=torch.float64, generator=generator) * 10.0 ** (step % 7 - 4)
        gradient[0] = 0
        own.step(gradient)
        theirs.grad = gradient.clone()
        reference.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours[0], begun[0])
    assert (ours[1:] != begun[1:]).all()


def test_it_finds_the_bottom_of_a_bowl() -> None:
    place = torch.tensor([3.0, -2.0], requires_grad=True)
    optimizer = Adam(place, 0.1)
    for _ in range(300):
        optimizer.step(*torch.autograd.grad((place * torch.tensor([1.0, 10.0])).square().sum(), place))
        optimizer.rate *= 0.99
    assert float(place.detach().abs().max()) < 1e-2
