"""A faster backward pass of group normalization on a CPU, for training only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["fast_group_norm"]


class _GroupNorm(torch.autograd.Function):
    """Group normalization of (n, c, h, w) whose backward is two reductions and two passes.

    PyTorch's own backward took a third of the autoencoder's training time in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        n, c, h, w = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, n, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:  # type: ignore[override]
        x, weight, mean, rstd = ctx.saved_tensors
        n, c, h, w = x.shape
        g = ctx.groups
        k = c // g

        def per_channel(t: torch.Tensor) -> torch.Tensor:
            return t.view(n, g, 1).expand(n, g, k).reshape(n, c)

        mean, rstd, weight32 = mean.float().view(n, g), rstd.float().view(n, g), weight.float()
        sum_dy = dy.sum((2, 3), dtype=torch.float32)
        sum_dyx = (dy * x).sum((2, 3), dtype=torch.float32)
        d_weight = ((sum_dyx - sum_dy * per_channel(mean)) * per_channel(rstd)).sum(0)
        a = (sum_dy * weight32).view(n, g, k).sum(2)
        b = (sum_dyx * weight32).view(n, g, k).sum(2)
        # dx = rstd (w dy) + on_x x + constant, from the derivative of (x - mean) rstd
        on_x = -((b - a * mean) * rstd.pow(3)) / (k * h * w)
        constant = -on_x * mean - a * rstd / (k * h * w)

        def spread(t: torch.Tensor) -> torch.Tensor:
            return t.to(dy.dtype)[:, :, None, None]

        dx = torch.addcmul(
            spread(per_channel(constant)).expand_as(x), x, spread(per_channel(on_x))
        ).addcmul_(dy, spread(per_channel(rstd) * weight32))
        return dx, d_weight.to(weight.dtype), sum_dy.sum(0).to(weight.dtype), None, None


@contextmanager
def fast_group_norm() -> Iterator[None]:
    """Let every ``nn.GroupNorm`` use the faster backward pass inside the block."""
    original = nn.GroupNorm.forward

    def forward(self: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4:
            return original(self, x)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return _GroupNorm.apply(x, weight, bias, self.num_groups, self.eps)  # type: ignore

    nn.GroupNorm.forward = forward  # type: ignore
    try:
        yield
    finally:
        nn.GroupNorm.forward = original  # type: ignore[method-assign]
