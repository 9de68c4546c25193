# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a diffusion transformer is made of: conditions as a vector, attention, and blocks that the vector modulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from monai.networks.blocks import MLPBlock
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import nn

from ..findings import findings_embedding

__all__ = ["AdaptiveBlock", "Attention", "ConditionEmbedding", "make_linear", "modulate", "sincos_positions"]

_TIME_CHANNELS = 256


def sincos_positions(grid: Sequence[int], hidden_size: int) -> torch.Tensor:
    """Fixed positions of the cells of a grid [cells, hidden_size], float32: sines and cosines along each axis.

    MONAI's and DiT's in 2D (the last axis first), for any number of axes; channels that do not divide are zeros.

    Example:
        >>> sincos_positions((2, 3), 8).shape
        torch.Size([6, 8])
    """
    count = hidden_size // (2 * len(grid))
    omega = 10000.0 ** -(torch.arange(count, dtype=torch.float64) / max(count, 1))
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in reversed(axes)]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return functional.pad(waves, (0, hidden_size - waves.shape[1])).float()


def make_linear(inputs: int, outputs: int, *, std: float | None = None) -> nn.Linear:
    """A linear layer that starts as in DiT: bias 0, weights of standard deviation ``std``; None for Xavier's."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.bias)
    if std is None:
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=std)
    return layer


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x (1 + scale) + shift of tokens [B, T, D], with shift and scale [B, D]."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class ConditionEmbedding(nn.Module):
    """A vector [B, D] of the timestep and the class.

    Args:
        hidden_size: D.
        num_class_embeds: rows of the table of classes, the null class included; None for no classes.
        num_findings: findings of an image in place of its class, see
            :func:`monai_diffclf.networks.findings_embedding`.
    """

    def __init__(self, hidden_size: int, num_class_embeds: int | None, num_findings: int | None = None) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(
            make_linear(_TIME_CHANNELS, hidden_size, std=0.02),
            nn.SiLU(),
            make_linear(hidden_size, hidden_size, std=0.02),
        )
        # torch's N(0, 1) rather than the published .02, so that classes differ early in a short training.
        self.class_embedding: nn.Module | None = None
        if num_findings is not None:
            self.class_embedding = findings_embedding(num_findings, hidden_size)
        elif num_class_embeds is not None:
            self.class_embedding = nn.Embedding(num_class_embeds, hidden_size)

    def forward(self, timesteps: torch.Tensor, class_labels: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
        """The vector [B, D] for timesteps [B] and class labels [B]."""
        vector: torch.Tensor = self.time_embed(get_timestep_embedding(timesteps, _TIME_CHANNELS).to(dtype))
        if self.class_embedding is None:
            return vector
        if class_labels is None:
            raise ValueError("class_labels: expected labels [B], got None; the network has class embeddings")
        vector = vector + self.class_embedding(class_labels).to(dtype)
        return vector


class Attention(nn.Module):
    """Multi-head attention of tokens to each other or, with ``context_size``, to those of a context.

    On torch's fused attention, but for two cases: its kernels cannot be differentiated twice, which matters where the
    tokens come from an input that is itself differentiated (``differentiable``), and on a CPU its gradient is several
    times slower than that of the plain formula.

    Args:
        hidden_size: channels of a token.
        num_heads: heads, a divisor of ``hidden_size``.
        dropout: dropout of the attention weights.
        context_size: channels of a token of the context, which adds nothing at the start; None for self-attention.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0, context_size: int | None = None) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.cross = num_heads, dropout, context_size is not None
        if context_size is None:
            self.qkv = make_linear(hidden_size, 3 * hidden_size)
        else:
            self.to_q = make_linear(hidden_size, hidden_size)
            self.to_kv = make_linear(context_size, 2 * hidden_size)
        self.out_proj = make_linear(hidden_size, hidden_size, std=None if context_size is None else 0.0)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor | None = None, *, differentiable: bool = False
    ) -> torch.Tensor:
        """From tokens [B, T, D], and those of a context [B, S, D'], to tokens [B, T, D]."""
        if self.cross:
            (q,), (k, v) = self._heads(self.to_q(x), 1), self._heads(self.to_kv(context), 2)
        else:
            q, k, v = self._heads(self.qkv(x), 3)
        if differentiable or (q.is_cpu and q.requires_grad and torch.is_grad_enabled()):
            weights = (q @ k.transpose(2, 3) * q.shape[3] ** -0.5).softmax(3)
            y = functional.dropout(weights, self.dropout, self.training) @ v
        else:
            dropout = self.dropout if self.training else 0.0
            y = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        tokens: torch.Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return tokens

    def _heads(self, x: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """Split [B, T, parts x heads x D] into tensors [B, heads, T, D]."""
        heads: tuple[torch.Tensor, ...] = x.unflatten(2, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return heads


class AdaptiveBlock(nn.Module):
    """A transformer block whose norms and branches are shifted, scaled and gated by the conditions (adaLN-zero).

    h = h + g1 attention(norm(h) (1 + s1) + b1), then cross-attention to a context if there is one, then
    h = h + g2 mlp(norm(h) (1 + s2) + b2), with the six vectors a linear function of SiLU(conditions) that starts at
    zero, so that a block starts as the identity (Peebles and Xie 2023, section 3.2).

    Args:
        hidden_size: channels of a token.
        num_heads: heads of the attention.
        mlp_ratio: hidden channels of the MLP over ``hidden_size``.
        dropout: dropout of attention weights and MLP.
        context_size: channels of a token of the context; None for no cross-attention.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, mlp_ratio: float, dropout: float, context_size: int | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(hidden_size, num_heads, dropout)
        self.cross_attn: Attention | None = None
        if context_size is not None:
            self.norm_cross = nn.LayerNorm(hidden_size, eps=1e-6)
            self.cross_attn = Attention(hidden_size, num_heads, dropout, context_size)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        act = ("GELU", {"approximate": "tanh"})
        self.mlp = MLPBlock(hidden_size, int(hidden_size * mlp_ratio), dropout, act=act)
        for layer in (self.mlp.linear1, self.mlp.linear2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.modulation = make_linear(hidden_size, 6 * hidden_size, std=0.0)

    def forward(
        self, h: torch.Tensor, conditions: torch.Tensor, context: torch.Tensor | None, *, differentiable: bool
    ) -> torch.Tensor:
        """From tokens [B, T, D] to tokens [B, T, D]; ``conditions`` [B, D] after SiLU."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(conditions).chunk(6, dim=1)
        attended = self.attn(modulate(self.norm1(h), shift1, scale1), differentiable=differentiable)
        h = torch.addcmul(h, gate1[:, None], attended)
        if self.cross_attn is not None:
            h = h + self.cross_attn(self.norm_cross(h), context, differentiable=differentiable)
        return torch.addcmul(h, gate2[:, None], self.mlp(modulate(self.norm2(h), shift2, scale2)))
