# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An equivalent network that is faster to evaluate."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as functional
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUnetDownsample,
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from torch import nn

from .._checks import check_eval_mode
from .fast_blocks import Norm, ResidualBlock, SpatialAttention, TransformerStack, UpsampleConvolution, join_linear
from .nets import WaveletDiffusionUNet

__all__ = ["FastNetwork", "fast_inference"]

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
# The layers that MONAI builds a DiffusionModelUNet of. Any other, such as an adapter's, might compute something else.
LAYERS = {"AvgPool2d", "AvgPool3d", "Conv2d", "Conv3d", "Dropout", "Embedding", "GEGLU", "GroupNorm", "Identity"}
LAYERS |= {"LayerNorm", "Linear", "Rearrange", "SiLU", "Upsample"}
PACKAGES = ("torch.nn.modules.", "monai.networks.", "einops.")


def fast_inference(network: nn.Module, *, compile: bool | str = False) -> FastNetwork:
    """Make a network for inference that predicts the same, called the same way.

    For a `DiffusionModelUNet` and a `WaveletDiffusionUNet`, with class embeddings or cross-attention, the blocks are
    rewritten (see :mod:`monai_diffclf.networks.fast_blocks`); predictions agree to a relative 1e-4 and an absolute 1e-5
    in float32. Any other network keeps its code and gets a faster layout of its weights (channels last, 2D only).

    The weights are copied: the given network stays as it is, and what happens to it later does not reach the copy. Keep
    the given one for training and for whatever needs gradients.

    Args:
        network: the network in eval mode.
        compile: False; True or ``"default"`` for `torch.compile`; or another of its modes: ``"reduce-overhead"`` uses
            CUDA graphs on a GPU, meant for small images. On a CPU compiled code was slower than without. The first call
            then takes a minute or more, and so does the first of another batch size; a batch is filled up to one seen
            before where that is at most twice as large.

    Raises:
        TypeError: when ``network`` is no `nn.Module`.
        ValueError: when it is in training mode, or ``compile`` is unknown.

    Example:
        >>> network = WaveletDiffusionUNet(2, 1, channels=(8, 8), attention_levels=(False, True), num_res_blocks=1,
        ...     norm_num_groups=4, num_head_channels=8, num_class_embeds=3).eval()
        >>> fast, arguments = fast_inference(network), {"timesteps": torch.tensor([5, 9])}
        >>> x, labels = torch.rand(2, 1, 16, 16), torch.tensor([0, 1])
        >>> with torch.inference_mode():
        ...     expected = network(x, torch.tensor([5, 9]), class_labels=labels)
        ...     torch.allclose(fast(x, torch.tensor([5, 9]), class_labels=labels), expected, rtol=1e-4, atol=1e-5)
        True
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}")
    check_eval_mode(network)
    if not isinstance(compile, bool) and compile not in COMPILE_MODES:
        raise ValueError(f"compile: expected True, False or one of {list(COMPILE_MODES)}, got {compile!r}")
    mode = "default" if compile is True else compile
    inner = _rewrite(copy.deepcopy(network))
    for parameter in inner.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    fast = FastNetwork(inner, fill_up=bool(mode)).requires_grad_(False).eval()
    if mode:
        inner.compile(mode=mode, dynamic=False)
    return fast


def _rewrite(network: nn.Module) -> nn.Module:
    """Replace the U-Net of a network, where it is one whose forward pass is known."""
    if type(network) is DiffusionModelUNet and _is_plain(network):
        return FastUNet(network)
    if type(network) is WaveletDiffusionUNet and _is_plain(network.unet):
        network.unet = FastUNet(network.unet)  # type: ignore[assignment]
    return network


def _is_plain(network: DiffusionModelUNet) -> bool:
    """Whether the network is as MONAI builds it: no layer replaced, no hook."""
    return all(
        type(module).__module__.startswith(PACKAGES)
        and (any(module.children()) or type(module).__name__ in LAYERS)
        and not (module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))
        for module in network.modules()
    )


class FastNetwork(nn.Module):
    """What :func:`fast_inference` returns: a network without gradients.

    Args:
        network: the network to call.
        fill_up: fill batches up to a size seen before, for code that is compiled for one size.
    """

    def __init__(self, network: nn.Module, *, fill_up: bool = False) -> None:
        super().__init__()
        self.network, self.fill_up = network, fill_up
        self.batch_sizes: set[int] = set()

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call the network on ``x`` [B, C, *spatial] and its other arguments.

        Raises:
            ValueError: when a gradient with respect to ``x`` is asked for.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError("x: expected no gradients, but x requires them; differentiate the plain network instead")
        with torch.no_grad():
            if not self.fill_up:
                return self.network(x, *args, **kwargs)
            batch = len(x)
            size = min((s for s in self.batch_sizes if batch <= s <= 2 * batch), default=batch)
            self.batch_sizes.add(size)
            filled = [_fill_up(value, batch, size) for value in (x, *args)]
            named = {name: _fill_up(value, batch, size) for name, value in kwargs.items()}
            if x.is_cuda:
                torch.compiler.cudagraph_mark_step_begin()
            # CUDA graphs write every prediction into the same memory.
            return self.network(*filled, **named)[:batch].clone()


def _fill_up(value: Any, batch: int, size: int) -> Any:
    """Repeat the last entry of a batch until there are ``size``; what is no batch stays as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(_fill_up(part, batch, size) for part in value)
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != batch or batch == size:
        return value
    return torch.cat([value, value[-1:].expand(size - batch, *value.shape[1:])])


class Stage(nn.Module):
    """The blocks of one resolution: pairs of a residual block and its attention, then a change of resolution.

    Args:
        block: one of MONAI's down, middle or up blocks.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        middle = hasattr(block, "resnet_1")
        resnets = [block.resnet_1, block.resnet_2] if middle else list(block.resnets)
        attentions = [block.attention, None] if middle else getattr(block, "attentions", [None] * len(resnets))
        self.resnets = nn.ModuleList(map(ResidualBlock, resnets))
        self.attentions = nn.ModuleList(_make_attention(attention) for attention in attentions)
        self.resample = _make_resample(getattr(block, "downsampler", None) or getattr(block, "upsampler", None))

    def forward(
        self,
        h: torch.Tensor,
        shifts: Iterator[torch.Tensor],
        context: torch.Tensor | None,
        skips: list[torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """All outputs in order; ``skips``, when given, are joined to the inputs of the residual blocks."""
        outputs = []
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            h = resnet(h if skips is None else torch.cat([h, skips.pop()], dim=1), next(shifts))
            h = attention(h, context)
            outputs.append(h)
        if self.resample is not None:
            residual = isinstance(self.resample, ResidualBlock)
            outputs.append(self.resample(h, next(shifts)) if residual else self.resample(h))
        return outputs


class NoAttention(nn.Module):
    """Stands where a block has no attention."""

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``x``."""
        return x


def _make_attention(block: Any) -> nn.Module:
    if block is None:
        return NoAttention()
    return SpatialAttention(block) if isinstance(block, SpatialAttentionBlock) else TransformerStack(block)


def _make_resample(block: Any) -> nn.Module | None:
    if isinstance(block, DiffusionUNetResnetBlock):
        return ResidualBlock(block)
    if isinstance(block, DiffusionUnetDownsample):
        return cast(nn.Module, block.op)
    return None if block is None else UpsampleConvolution(block.postconv.conv)


class FastUNet(nn.Module):
    """MONAI's `DiffusionModelUNet` of the blocks in :mod:`monai_diffclf.networks.fast_blocks`.

    Args:
        network: the network whose weights to take; most are shared with it.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.embedding_dim, self.with_conditioning = network.block_out_channels[0], network.with_conditioning
        self.time_embed = network.time_embed
        self.class_embedding = None if network.num_class_embeds is None else network.class_embedding
        self.conv_in = network.conv_in.conv
        self.down, self.up = (nn.ModuleList(map(Stage, blocks)) for blocks in (network.down_blocks, network.up_blocks))
        self.middle = Stage(network.middle_block)
        self.norm_out, self.conv_out = Norm(network.out[0], activate=True), network.out[2].conv
        # One product for all blocks, in the order of their calls.
        stages = nn.ModuleList([*self.down, self.middle, *self.up])
        projections = [block.take_projection() for block in stages.modules() if isinstance(block, ResidualBlock)]
        self.project = join_linear(projections)
        self.shift_sizes = [layer.out_features for layer in projections]

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        down_block_additional_residuals: tuple[torch.Tensor, ...] | None = None,
        mid_block_additional_residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `DiffusionModelUNet.forward`."""
        if context is not None and not self.with_conditioning:
            raise ValueError("context: expected None, as the network was built with with_conditioning=False")
        shifts = self._shifts(timesteps, class_labels, x.dtype)
        h = self.conv_in(_to_layout(x))
        skips = [h]
        for stage in self.down:
            skips += stage(skips[-1], shifts, context)
        h = skips[-1]
        if down_block_additional_residuals is not None:
            skips = [skip + other for skip, other in zip(skips, down_block_additional_residuals, strict=True)]
        h = self.middle(h, shifts, context)[-1]
        if mid_block_additional_residual is not None:
            h = h + mid_block_additional_residual
        for stage in self.up:
            h = stage(h, shifts, context, skips)[-1]
        prediction: torch.Tensor = self.conv_out(self.norm_out(h))
        return prediction

    def _shifts(
        self, timesteps: torch.Tensor, class_labels: torch.Tensor | None, dtype: torch.dtype
    ) -> Iterator[torch.Tensor]:
        """What each residual block adds to its channels for the timestep and the class, [B, C] each."""
        embedding = self.time_embed(get_timestep_embedding(timesteps, self.embedding_dim).to(dtype))
        if self.class_embedding is not None:
            if class_labels is None:
                raise ValueError("class_labels: expected labels [B], got None; the network has class embeddings")
            embedding = embedding + self.class_embedding(class_labels).to(dtype)
        return iter(self.project(functional.silu(embedding)).split(self.shift_sizes, dim=1))


def _to_layout(x: torch.Tensor) -> torch.Tensor:
    """The layout in memory on which the convolutions are fastest."""
    if x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last_3d) if x.is_cpu else x.contiguous()
