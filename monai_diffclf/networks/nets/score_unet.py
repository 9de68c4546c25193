# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The class-conditional score network of Sarker et al., with its faults mended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from ..._checks import check_integer
from ..schedulers import SDE
from ..schedulers.noise_process import column

__all__ = ["ScoreUNet"]


class FourierFeatures(nn.Module):
    """sin and cos of the log-SNR, scaled to [0, 1] over the SDE, at random frequencies (Tancik et al. 2020)."""

    frequencies: torch.Tensor

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(size // 2) * scale * 2 * math.pi)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """Features [B, size] of levels [B] in [0, 1]."""
        angles = level[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ConditionedBlock(nn.Module):
    """Two convolutions with group normalisation and SiLU, the embedding added in between."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: int, embedding: int, groups: int) -> None:
        super().__init__()
        norm = ("GROUP", {"num_groups": groups})
        settings: dict[str, Any] = {"act": "SWISH", "norm": norm, "adn_ordering": "NA"}
        self.first = Convolution(spatial_dims, in_channels, channels, **settings)
        self.embed = nn.Linear(embedding, channels)
        self.second = Convolution(spatial_dims, channels, channels, **settings)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Features [B, channels, *spatial] of x under the embedding of time and class [B, embedding]."""
        x = self.first(x)
        added = self.embed(embedding)
        x = x + added.reshape(*added.shape, *[1] * (x.ndim - 2))
        out: torch.Tensor = self.second(x)
        return out


class ScoreUNet(nn.Module):
    """A U-Net that predicts the score s(x, t, k) of an SDE's marginals, after Sarker et al. (ISBI 2025).

    As there: two convolutions a level, Fourier features of the time, a class embedding added to them and given to every
    level, no attention, an output divided by sigma(t). Otherwise

    * group instead of batch normalisation, which mixes noise levels and makes an image's score depend on its batch;
    * the features are of the log-SNR rather than of t: all t below 0.005 look alike in theirs, where the log-SNR falls
      from 14 to 7;
    * the score is -(alpha F + sigma u) / sigma with u the input at unit variance and F the network's output, so that it
      starts as the score of N(0, 1), which is right at t = 1 (F is v in Salimans and Ho 2022);
    * SiLU and mean pooling in place of ReLU and max pooling: the likelihood differentiates the score, and its integral
      over time is smooth only if the score is.

    Images may have any size: they are padded inside, and only what belongs to the image is predicted.

    Args:
        sde: the forward process the network is trained with.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes K; index K is the null class of label dropout.
        channels: channels of each level.
        embedding_channels: size of the Fourier features and of the class embedding.
        fourier_scale: standard deviation of their frequencies, in periods over the SDE's range of the log-SNR.
        norm_num_groups: groups of the normalisation.

    Raises:
        ValueError: when the channels are no multiple of ``norm_num_groups``, or a number is out of range.

    Example:
        >>> from monai_diffclf.networks.schedulers import VPSDE
        >>> network = ScoreUNet(VPSDE(), 2, 1, num_classes=2, channels=(8, 16), norm_num_groups=4)
        >>> network(torch.rand(2, 1, 9, 7), torch.tensor([0.1, 0.9]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 1, 9, 7])
    """

    def __init__(
        self,
        sde: SDE,
        spatial_dims: int = 2,
        in_channels: int = 1,
        *,
        num_classes: int = 2,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        embedding_channels: int = 256,
        fourier_scale: float = 4.0,
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, got {spatial_dims!r}")
        for name, value in (
            ("in_channels", in_channels),
            ("num_classes", num_classes),
            ("norm_num_groups", norm_num_groups),
        ):
            check_integer(value, name)
        if not channels or (wrong := [c for c in channels if c < 1 or c % norm_num_groups]):
            found = wrong if channels else "none"
            raise ValueError(f"channels: expected multiples of norm_num_groups, {norm_num_groups}, got {found}")
        if embedding_channels < 2 or embedding_channels % 2:
            raise ValueError(f"embedding_channels: expected an even number of at least 2, got {embedding_channels!r}")
        self.sde, self.spatial_dims, self.multiple = sde, spatial_dims, 2 ** (len(channels) - 1)
        self.num_classes = num_classes
        self.time = nn.Sequential(
            FourierFeatures(embedding_channels, fourier_scale),
            nn.Linear(embedding_channels, embedding_channels),
            nn.SiLU(),
        )
        self.labels = nn.Embedding(num_classes + 1, embedding_channels)
        sizes = [in_channels, *channels]
        block = (embedding_channels, norm_num_groups)
        self.down = nn.ModuleList(
            ConditionedBlock(spatial_dims, before, after, *block)
            for before, after in zip(sizes, channels, strict=False)
        )
        self.pool = Pool[Pool.AVG, spatial_dims](kernel_size=2)
        steps = list(zip(reversed(channels[:-1]), reversed(channels[1:]), strict=True))
        rise = Conv[Conv.CONVTRANS, spatial_dims]
        self.rise = nn.ModuleList(rise(below, here, kernel_size=2, stride=2) for here, below in steps)
        self.up = nn.ModuleList(ConditionedBlock(spatial_dims, 2 * here, here, *block) for here, _ in steps)
        self.out = Conv[Conv.CONV, spatial_dims](channels[0], in_channels, kernel_size=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The score [B, C, *spatial] of noisy images x [B, C, *spatial] at the SDE's times [B] under their classes [B].

        Raises:
            ValueError: when there are no class labels: a network asked without its class would give all classes the
                same likelihood.
        """
        if class_labels is None:
            raise ValueError(f"class_labels: expected the class of each image [B], 0 to {self.num_classes}, got None")
        alpha, sigma = (column(factor, x) for factor in self.sde.alpha_sigma(timesteps))
        scale = (alpha.square() + sigma.square()).sqrt()
        unit = x / scale
        low, high = self.sde.log_snr_range
        level = ((high - self.sde.log_snr(timesteps)) / (high - low)).to(self.labels.weight.dtype)
        embedding = self.time(level) + self.labels(class_labels)
        # In the autocast's type up to here; dividing by a small sigma needs float32.
        output = self._unet(unit, embedding).to(x.dtype)
        return -(alpha * output + sigma * unit) / (sigma * scale)

    def _unet(self, unit: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """F [B, C, *spatial]; images are padded at their far ends to a multiple of the deepest level's stride."""
        shape = unit.shape[2:]
        missing = [-size % self.multiple for size in shape]
        features = nn.functional.pad(unit, [n for m in reversed(missing) for n in (0, m)])
        skips = []
        for level, down in enumerate(self.down):
            features = down(features if level == 0 else self.pool(features), embedding)
            skips.append(features)
        for rise, up, skip in zip(self.rise, self.up, reversed(skips[:-1]), strict=True):
            features = up(torch.cat([rise(features), skip], dim=1), embedding)
        output: torch.Tensor = self.out(features)
        for axis, size in enumerate(shape, start=2):
            output = output.narrow(axis, 0, size)
        return output
