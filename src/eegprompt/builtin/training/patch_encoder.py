"""Write a linear projection of patches into the encoder of an ``AutoencoderKL``.

An encoder is residual blocks, strided convolutions and a normalized, rectified output. Each can be
set to do a known thing: a residual block whose last convolution is zero passes its input on; a
strided convolution with a tap for each of four pixels moves them into channels; and a value that
goes through the output as ``x`` and ``-x`` comes out whole, since ``silu(x) - silu(-x) = x``, if
large constants beside it keep the normalization from looking at it.
"""

from __future__ import annotations

from typing import Any

import torch

from eegprompt.builtin.training.train_autoencoder import Projection

__all__ = ["write_projection"]

_CONSTANT = 300.0
_LOG_VARIANCE = -14.0


@torch.no_grad()
def write_projection(vae: Any, project: Projection) -> None:
    """Let a vae's encoder compute a projection (to about 1 %), with next to no variance.

    Parameters
    ----------
    vae : AutoencoderKL
        With four levels, of at least 12, 32, 64 and 128 channels, and no attention.
    project : Projection
        What its latents shall be.
    """
    encoder = vae.encoder
    for parameter in [*encoder.parameters(), *vae.quant_conv.parameters()]:
        parameter.zero_()
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.fill_(1.0)
        if name.endswith("conv_shortcut"):
            n = min(module.weight.shape[:2])
            module.weight[:n, :n, 0, 0] = torch.eye(n)
    for color in range(3):
        encoder.conv_in.weight[color, color, 1, 1] = 1.0

    n = len(project.weight)
    # 1. Four pixels of three colors become twelve channels (row, column, color).
    first = encoder.down_blocks[0].downsamplers[0].conv.weight
    for row in range(2):
        for column in range(2):
            for color in range(3):
                first[6 * row + 3 * column + color, color, row, column] = 1.0
    # 2. Four of those become `kept` numbers: what the projection looks at in any 4×4 pixels.
    w = project.weight.reshape(n, 3, 2, 2, 2, 2, 2, 2)  # color, y4, y2, y1, x4, x2, x1
    w = w.permute(0, 2, 5, 3, 6, 4, 7, 1)  # y4, x4, y2, x2, y1, x1, color
    quarters = w.reshape(n * 4, 48)
    second = encoder.down_blocks[1].downsamplers[0].conv.weight
    kept = min(second.shape[0], 48)
    basis = torch.linalg.svd(quarters, full_matrices=False)[2][:kept]  # kept, 48
    taps = basis.reshape(kept, 2, 2, 12).permute(0, 3, 1, 2)
    second[:kept, :12, :2, :2] = taps
    # 3. Four of those become the latents.
    third = encoder.down_blocks[2].downsamplers[0].conv.weight
    onto = quarters.reshape(n, 2, 2, 48) @ basis.T  # n, y4, x4, kept
    third[:n, :kept, :2, :2] = onto.permute(0, 3, 1, 2)
    # 4. Every latent goes out twice, as x and -x, two latents and twelve constants a group.
    norm = encoder.conv_norm_out
    width = norm.num_channels // norm.num_groups
    out = encoder.down_blocks[3].resnets[0].conv_shortcut
    out.weight.zero_()
    norm.weight.zero_()
    encoder.conv_out.bias[n:] = _LOG_VARIANCE
    for group in range(norm.num_groups):
        start = group * width
        for i in range(4, width):
            out.bias[start + i] = _CONSTANT if i % 2 else -_CONSTANT
        for i, latent in enumerate(range(2 * group, min(2 * group + 2, n))):
            plus, minus = start + 2 * i, start + 2 * i + 1
            out.weight[plus, latent], out.weight[minus, latent] = 1.0, -1.0
            out.bias[plus], out.bias[minus] = project.bias[latent], -project.bias[latent]
            norm.weight[[plus, minus]] = _CONSTANT * ((width - 4) / width) ** 0.5
            encoder.conv_out.weight[latent, plus, 1, 1] = 1.0
            encoder.conv_out.weight[latent, minus, 1, 1] = -1.0
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * n)
