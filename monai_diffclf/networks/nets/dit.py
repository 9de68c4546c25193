# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A diffusion transformer (DiT) on images, volumes and tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from monai.networks.layers.factories import Conv
from torch import nn

from ..._checks import check_integer
from ..layers.adaptive_blocks import AdaptiveBlock, ConditionEmbedding, make_linear, modulate, sincos_positions

__all__ = ["DiT"]

# Name of a published size -> channels, blocks and heads (Peebles and Xie 2023, table 1).
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
POSITIONS = ("sincos", "learnable")


class DiT(nn.Module):
    """Diffusion transformer with adaLN-zero (Peebles and Xie, ICCV 2023), called like MONAI's `DiffusionModelUNet`.

    The image is cut into patches, each a token; timestep and class shift, scale and gate every block; a context is
    attended to where there is one. Untrained it predicts zeros.

    Args:
        spatial_dims: 2 or 3; 1 for tokens in no particular arrangement, such as the features of an encoder.
        in_channels: channels of the image, or of a token.
        input_size: size of the image, one number or one an axis; the number of tokens in 1D.
        patch_size: size of a patch, one number or one an axis, a divisor of ``input_size``.
        hidden_size: channels of a token inside, a multiple of ``num_heads``.
        num_layers: blocks.
        num_heads: heads of the attention.
        mlp_ratio: hidden channels of the MLPs over ``hidden_size``.
        dropout: dropout of attention weights and MLPs; none in the published models.
        num_class_embeds: number of class embeddings, K + 1 for K classes and the null class; None for no classes.
        num_findings: findings L whose states take the place of the class, see
            :func:`monai_diffclf.networks.findings_embedding`; ``class_labels`` are then [B, L]. None for none.
        cross_attention_dim: channels of the tokens of ``context``; None for no cross-attention.
        learn_variance: also predict a variance, in another ``in_channels`` channels of the output. Classification
            ignores it; the published models have it.
        pos_embed_type: ``"sincos"`` (fixed) or ``"learnable"``; None for the first on grids and the second in 1D.
        shared_embedding: whether all blocks share one embedding of timestep and class, as published. False gives each
            its own, as diffusers does and, with it, Favero et al. (2025).

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> network = DiT(2, 1, input_size=8, patch_size=2, hidden_size=16, num_layers=2, num_heads=2,
        ...     num_class_embeds=3)
        >>> network(torch.rand(2, 1, 8, 8), torch.tensor([5, 9]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 1, 8, 8])
        >>> tokens = DiT(1, 64, input_size=49, hidden_size=16, num_layers=2, num_heads=2, num_class_embeds=3)
        >>> tokens(torch.rand(2, 64, 49), torch.tensor([5, 9]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 64, 49])
    """

    positions: torch.Tensor

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        input_size: int | Sequence[int],
        patch_size: int | Sequence[int] = 1,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        num_class_embeds: int | None = None,
        num_findings: int | None = None,
        cross_attention_dim: int | None = None,
        learn_variance: bool = False,
        pos_embed_type: str | None = None,
        shared_embedding: bool = True,
    ) -> None:
        super().__init__()
        if spatial_dims not in (1, 2, 3):
            raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {spatial_dims!r}")
        numbers = {"in_channels": in_channels, "hidden_size": hidden_size, "num_layers": num_layers}
        numbers |= {"num_heads": num_heads}
        optional = {"num_class_embeds": num_class_embeds, "cross_attention_dim": cross_attention_dim}
        optional |= {"num_findings": num_findings}
        if num_findings is not None and num_class_embeds is not None:
            raise ValueError("num_findings: expected no num_class_embeds beside it; an image has findings or a class")
        _check_counts(numbers | {name: value for name, value in optional.items() if value is not None})
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size: expected a multiple of num_heads, {num_heads}, got {hidden_size}")
        if not mlp_ratio > 0:
            raise ValueError(f"mlp_ratio: expected a positive number, got {mlp_ratio!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {dropout!r}")
        pos_embed_type = pos_embed_type or ("learnable" if spatial_dims == 1 else "sincos")
        if pos_embed_type not in POSITIONS:
            raise ValueError(f"pos_embed_type: expected None or one of {list(POSITIONS)}, got {pos_embed_type!r}")
        self.spatial_dims, self.in_channels, self.num_class_embeds = spatial_dims, in_channels, num_class_embeds
        self.cross_attention_dim = cross_attention_dim
        self.input_size = _per_axis("input_size", input_size, spatial_dims)
        self.patch_size = _per_axis("patch_size", patch_size, spatial_dims)
        if any(size % patch for size, patch in zip(self.input_size, self.patch_size, strict=True)):
            raise ValueError(
                f"patch_size: expected a divisor of input_size along each axis, got {list(self.patch_size)} for "
                f"{list(self.input_size)}"
            )
        self.grid = tuple(size // patch for size, patch in zip(self.input_size, self.patch_size, strict=True))
        self.out_channels = in_channels * (2 if learn_variance else 1)
        self.embed = Conv[Conv.CONV, spatial_dims](
            in_channels, hidden_size, kernel_size=self.patch_size, stride=self.patch_size
        )
        nn.init.xavier_uniform_(self.embed.weight.view(hidden_size, -1))
        nn.init.zeros_(self.embed.bias)
        if pos_embed_type == "sincos":
            # Follows from the settings: no part of the weights.
            self.register_buffer("positions", sincos_positions(self.grid, hidden_size), persistent=False)
        else:
            self.positions = nn.Parameter(torch.randn(math.prod(self.grid), hidden_size) * 0.02)
        self.conditions = nn.ModuleList(
            ConditionEmbedding(hidden_size, num_class_embeds, num_findings)
            for _ in range(1 if shared_embedding else num_layers)
        )
        self.blocks = nn.ModuleList(
            AdaptiveBlock(hidden_size, num_heads, mlp_ratio, dropout, cross_attention_dim) for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.modulation_out = make_linear(hidden_size, 2 * hidden_size, std=0.0)
        self.out = make_linear(hidden_size, math.prod(self.patch_size) * self.out_channels, std=0.0)

    @classmethod
    def sized(
        cls,
        name: str,
        patch_size: int | Sequence[int] = 2,
        *,
        spatial_dims: int = 2,
        in_channels: int = 4,
        input_size: int | Sequence[int] = 32,
        **settings: Any,
    ) -> DiT:
        """A network of a published size, "S", "B", "L" or "XL"; by default on latents 4 x 32 x 32.

        Raises:
            ValueError: when the name is unknown.

        Example:
            >>> sum(weight.numel() for weight in DiT.sized("S", 8, input_size=16).parameters()) // 1_000_000
            32
        """
        if name not in SIZES:
            raise ValueError(f"name: expected one of {list(SIZES)}, got {name!r}")
        hidden, layers, heads = SIZES[name]
        sizes = {"hidden_size": hidden, "num_layers": layers, "num_heads": heads}
        return cls(spatial_dims, in_channels, input_size, patch_size, **{**sizes, **settings})

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The prediction [B, C or 2 C, *spatial] of noisy images x [B, C, *spatial] at timesteps [B].

        Args:
            x: noisy images, or tokens [B, C, T] in 1D.
            timesteps: timestep of each, of the order of 1,000 for the most noise.
            context: tokens [B, S, cross_attention_dim] to attend to, where the network was built for them.
            class_labels: class of each [B], where it has class embeddings.

        Raises:
            ValueError: when the image has another size, or the context or the labels are missing or not expected.
        """
        if tuple(x.shape[1:]) != (self.in_channels, *self.input_size):
            shape = ", ".join(map(str, (self.in_channels, *self.input_size)))
            raise ValueError(f"x: expected the size that the network was built for, [B, {shape}], got {list(x.shape)}")
        if (context is None) != (self.cross_attention_dim is None):
            expected = "None" if context is not None else f"tokens [B, S, {self.cross_attention_dim}]"
            raise ValueError(
                f"context: expected {expected}, as the network was built with cross_attention_dim="
                f"{self.cross_attention_dim}"
            )
        embedded = [functional.silu(each(timesteps, class_labels, x.dtype)) for each in self.conditions]
        h = self.embed(x).flatten(2).transpose(1, 2)
        h = h + self.positions.to(h.dtype)
        needs_graph = x.requires_grad and torch.is_grad_enabled()
        for number, block in enumerate(self.blocks):
            conditions = embedded[number % len(embedded)]
            h = block(h, conditions, context, differentiable=needs_graph)
        shift, scale = self.modulation_out(embedded[0]).chunk(2, dim=1)
        return self._to_image(self.out(modulate(self.norm_out(h), shift, scale)))

    def _to_image(self, tokens: torch.Tensor) -> torch.Tensor:
        """From tokens [B, T, patch x channels] to [B, channels, *spatial]."""
        dims = self.spatial_dims
        cells = tokens.reshape(len(tokens), *self.grid, *self.patch_size, self.out_channels)
        pairs = [axis for dim in range(dims) for axis in (1 + dim, 1 + dims + dim)]
        image = cells.permute(0, 1 + 2 * dims, *pairs)
        return image.reshape(len(tokens), self.out_channels, *self.input_size)


def _per_axis(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    sizes = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(sizes) != axes:
        raise ValueError(f"{name}: expected one number or one for each of {axes} axes, got {list(sizes)}")
    for each in sizes:
        _check_counts({name: each})
    return sizes


def _check_counts(numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        check_integer(value, name)
