# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A tiny autoencoder, whose weights are published for the latents of several diffusion models (TAESD and its kin)."""

from __future__ import annotations

import torch
from torch import nn

from ..._checks import check_integer

__all__ = ["TinyAutoencoder"]

STAGES = 3  # each halves the image
BLOCKS = 3


class TinyAutoencoder(nn.Module):
    """An autoencoder of 3 x 3 convolutions and ReLUs from images [B, 3, H, W] to latents [B, c, H / 8, W / 8].

    The networks called TAESD (github.com/madebyollin/taesd, MIT licence), distilled from the autoencoders of latent
    diffusion models. Names of the weights are those of the published files, under ``encoder`` and ``decoder``. Images
    are in [-1, 1]; inside, in [0, 1], as the weights were trained. With 64 features and 4 latent channels it has 2.4
    million weights.

    Args:
        latent_channels: channels of the latents c.
        features: channels inside.
        normalised: whether the blocks of the coarsest grid begin with a branch with group normalisation, as in TAEF2.

    Example:
        >>> network = TinyAutoencoder(4, features=8)
        >>> latents = network.encode(torch.rand(1, 3, 16, 24) * 2 - 1)
        >>> latents.shape, network.decode(latents).shape
        (torch.Size([1, 4, 2, 3]), torch.Size([1, 3, 16, 24]))
    """

    in_channels = 3

    def __init__(self, latent_channels: int = 4, *, features: int = 64, normalised: bool = False) -> None:
        super().__init__()
        features = check_integer(features, "features")
        self.latent_channels = latent_channels = check_integer(latent_channels, "latent_channels")
        down: list[nn.Module] = [_conv(3, features), Block(features)]
        for stage in range(STAGES):
            coarse = normalised and stage == STAGES - 1
            down += [_conv(features, features, stride=2, bias=False), *(Block(features, coarse) for _ in range(BLOCKS))]
        self.encoder = nn.Sequential(*down, _conv(features, latent_channels))
        up: list[nn.Module] = [Limit(), _conv(latent_channels, features), nn.ReLU()]
        for stage in range(STAGES):
            up += [Block(features, normalised and stage == 0) for _ in range(BLOCKS)]
            up += [nn.Upsample(scale_factor=2), _conv(features, features, bias=False)]
        self.decoder = nn.Sequential(*up, Block(features), _conv(features, 3))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [B, c, H / 8, W / 8] of images [B, 3, H, W] in [-1, 1]."""
        return self.encoder((images + 1) / 2)  # type: ignore[no-any-return]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, 8 h, 8 w], about in [-1, 1], of latents [B, c, h, w]."""
        return 2 * self.decoder(latents) - 1  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images there and back."""
        return self.decode(self.encode(images))


class Block(nn.Module):
    """Three convolutions beside the identity; before them, if asked, a normalised branch that is added."""

    def __init__(self, features: int, normalised: bool = False) -> None:
        super().__init__()
        layers = [_conv(features, features), nn.ReLU(), _conv(features, features), nn.ReLU(), _conv(features, features)]
        self.conv = nn.Sequential(*layers)
        self.pool: nn.Module | None = None
        if normalised:
            wide = 4 * features
            first, last = nn.Conv2d(features, wide, 1, bias=False), nn.Conv2d(wide, features, 1, bias=False)
            self.pool = nn.Sequential(first, nn.GroupNorm(4, wide), nn.ReLU(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the same shape [B, features, *grid]."""
        x = x if self.pool is None else x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Limit(nn.Module):
    """3 tanh(x / 3), which leaves usual latents nearly as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Numbers in (-3, 3)."""
        return 3 * torch.tanh(x / 3)


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
