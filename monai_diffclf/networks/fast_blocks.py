# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The blocks of MONAI's `DiffusionModelUNet`, rewritten for inference: the same values with less work.

Measured on a CPU, MONAI's blocks lose time in four places: group normalisation is slow on channels-last tensors (as is
the conversion to the other layout), attention returns its result in another layout, every block adds the timestep
embedding in a pass of its own, and a 3 x 3 convolution after an upsampling multiplies each value several times.
`benchmarks/speed/profile_network.py` measures it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from monai.networks.blocks import CrossAttentionBlock
from torch import nn

__all__ = ["Norm", "ResidualBlock", "SpatialAttention", "TransformerStack", "UpsampleConvolution", "join_linear"]

# Kernel of a stride-2 transposed convolution from that of a 3-wide convolution after nearest upsampling, one axis.
UPSAMPLED_KERNEL = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def to_tokens(x: torch.Tensor) -> torch.Tensor:
    """Feature maps [B, C, *spatial] as tokens [B, S, C]; without a copy where the channels are last in memory."""
    return x.flatten(2).transpose(1, 2)


def to_image(tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Tokens [B, S, C] as feature maps [B, C, *spatial] with the channels last in memory; no copy."""
    image: torch.Tensor = tokens.unflatten(1, shape[2:]).movedim(-1, 1)
    return image


def add_into(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sum, in the memory of ``x`` where the types allow."""
    return x.add_(other) if x.dtype == other.dtype else x + other


class Norm(nn.Module):
    """Group normalisation of ``x + shift``, then SiLU where asked.

    The sums run over positions first, then over a group's channels, which keeps vectors whole where the channels are
    last in memory. The variance is the mean square of the centred values: no cancellation.

    Args:
        norm: the group normalisation.
        activate: whether SiLU follows.
    """

    def __init__(self, norm: nn.GroupNorm, *, activate: bool) -> None:
        super().__init__()
        self.num_groups, self.eps, self.activate = norm.num_groups, norm.eps, activate
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise ``x`` [B, C, *spatial]; ``shift`` [B, C]."""
        if x.is_cpu and x.dtype == torch.float32 and not x.is_contiguous():
            y = self._channels_last(x, shift)
        else:
            if shift is not None:
                x = x + shift.view(*shift.shape, *[1] * (x.ndim - 2))
            y = functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return functional.silu(y, inplace=True) if self.activate else y

    def _channels_last(self, x: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
        tokens = to_tokens(x)
        batch, positions, channels = tokens.shape
        grouped = (batch, self.num_groups, channels // self.num_groups)
        elements = positions * grouped[2]
        shift = x.new_zeros(batch, channels) if shift is None else shift.float()
        mean = tokens.sum(1).add_(shift, alpha=positions).view(grouped).sum(2, keepdim=True).div_(elements)
        centred = tokens + (shift.reshape(grouped) - mean).view(batch, 1, channels)
        squares = centred.square().sum(1)
        scale = squares.view(grouped).sum(2, keepdim=True).div_(elements).add_(self.eps).rsqrt_()
        scale = (scale * self.weight.view(grouped[1:])).view(batch, 1, channels)
        return to_image(centred.mul_(scale).add_(self.bias), x.shape)


class UpsampleConvolution(nn.Module):
    """Nearest upsampling by 2 and a 3-wide convolution, as one transposed convolution.

    Each output sees 2 distinct inputs along an axis, not 3: 4/9 of the multiplications in 2D, 8/27 in 3D.

    Args:
        convolution: a convolution of kernel size 3, stride 1 and padding 1.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        matrix = weight.new_tensor(UPSAMPLED_KERNEL)
        for axis in range(2, weight.ndim):
            weight = torch.tensordot(weight, matrix, dims=([axis], [1])).movedim(-1, axis)
        self.weight = nn.Parameter(weight.transpose(0, 1).contiguous(), requires_grad=False)
        self.bias = convolution.bias
        self.transposed = functional.conv_transpose2d if weight.ndim == 4 else functional.conv_transpose3d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From [B, C, *spatial] to [B, C', *(2 spatial)]."""
        return self.transposed(x, self.weight, self.bias, stride=2, padding=1)


class ResidualBlock(nn.Module):
    """MONAI's `DiffusionUNetResnetBlock`, given the projection of the timestep embedding.

    Args:
        block: the block to take the weights of.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(block.norm1, activate=True), Norm(block.norm2, activate=True)
        self.up = block.upsample is not None
        self.downsample = None if block.downsample is None else block.downsample.op
        self.conv1 = UpsampleConvolution(block.conv1.conv) if self.up else block.conv1.conv
        self.conv2 = block.conv2.conv
        self.skip_connection = block.skip_connection
        self.projection: nn.Linear | None = block.time_emb_proj

    def take_projection(self) -> nn.Linear:
        """Give away the projection of the timestep embedding, whose result :meth:`forward` takes."""
        projection, self.projection = self.projection, None
        if projection is None:
            raise RuntimeError("projection: already taken")
        return projection

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """From [B, C, *spatial] and ``shift`` [B, C'] to [B, C', *spatial]."""
        h = self.norm1(x)
        if self.downsample is not None:
            x, h = self.downsample(x), self.downsample(h)
        elif self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        h = self.conv2(self.norm2(self.conv1(h), shift))
        return add_into(h, self.skip_connection(x))


class Attention(nn.Module):
    """MONAI's `SABlock` or `CrossAttentionBlock` on PyTorch's fused attention, with one projection where it can be.

    Args:
        block: the block to take the weights of.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.num_heads, self.scale, self.upcast = block.num_heads, block.scale, block.attention_dtype is not None
        self.cross = isinstance(block, CrossAttentionBlock)
        if self.cross:
            self.to_q, self.to_kv = block.to_q, join_linear([block.to_k, block.to_v])
        else:
            combined = block.use_combined_linear
            self.to_qkv = block.qkv if combined else join_linear([block.to_q, block.to_k, block.to_v])
        self.out_proj = block.out_proj

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """From tokens [B, S, C] to tokens [B, S, C], or [B, 1, C] where all S are the same."""
        if not self.cross:
            q, k, v = self._heads(self.to_qkv(x), 3)
        else:
            k, v = self._heads(self.to_kv(x if context is None else context), 2)
            if k.shape[2] == 1:  # all of the attention falls on the only token
                return self._project(v)
            (q,) = self._heads(self.to_q(x), 1)
        if self.upcast:
            q, k, v = q.float(), k.float(), v.float()
        y = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self._project(y.to(x.dtype))

    def _heads(self, x: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """Split [B, S, parts x heads x D] into tensors [B, heads, S, D]."""
        heads: tuple[torch.Tensor, ...] = x.unflatten(2, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return heads

    def _project(self, heads: torch.Tensor) -> torch.Tensor:
        """From [B, heads, S, D] to [B, S, C]."""
        tokens: torch.Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return tokens


class SpatialAttention(nn.Module):
    """MONAI's `SpatialAttentionBlock`, which leaves the layout in memory as it is.

    Args:
        block: the block to take the weights of.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm, self.attn = Norm(block.norm, activate=False), Attention(block.attn)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """From [B, C, *spatial] to the same shape; ``context`` plays no part."""
        return x + to_image(self.attn(to_tokens(self.norm(x))), x.shape)


class TransformerLayer(nn.Module):
    """MONAI's `DiffusionUNetTransformerBlock`.

    Args:
        block: the block to take the weights of.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.ff = block.norm1, block.norm2, block.norm3, block.ff
        self.attn1, self.attn2 = Attention(block.attn1), Attention(block.attn2)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        """From tokens [B, S, C] and ``context`` [B, T, D] or None to tokens [B, S, C]."""
        x = torch.add(x, self.attn1(self.norm1(x)))
        x = torch.add(x, self.attn2(self.norm2(x), context))
        return torch.add(x, self.ff(self.norm3(x)))


class TransformerStack(nn.Module):
    """MONAI's `SpatialTransformer`, which leaves the layout in memory as it is.

    Args:
        block: the block to take the weights of.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm = Norm(block.norm, activate=False)
        self.proj_in, self.proj_out = block.proj_in.conv, block.proj_out.conv
        self.layers = nn.ModuleList(TransformerLayer(layer) for layer in block.transformer_blocks)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """From [B, C, *spatial] and ``context`` [B, T, D] or None to [B, C, *spatial]."""
        h = self.proj_in(self.norm(x))
        tokens = to_tokens(h)
        for layer in self.layers:
            tokens = layer(tokens, context)
        return torch.add(x, self.proj_out(to_image(tokens, h.shape)))


def join_linear(layers: list[nn.Linear]) -> nn.Linear:
    """One linear layer for several with the same input; their outputs follow one another."""
    first = layers[0]
    joined = nn.Linear(first.in_features, sum(layer.out_features for layer in layers), bias=first.bias is not None)
    joined.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]), requires_grad=False)
    if first.bias is not None:
        joined.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]), requires_grad=False)
    return joined
