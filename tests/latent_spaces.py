"""Small latent spaces for the tests."""

from __future__ import annotations

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from monai_diffclf.networks.latent_space import spread_map


class EncodesOnly:
    """Blocks of 2 x 2 pixels become four channels, times two; there is no way back."""

    def __init__(self) -> None:
        self.stride: int | tuple[int, ...] = 2
        self.version = "blocks of two"
        self.calls = 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2 * pixel_unshuffle(images, 2)


class Blocks(EncodesOnly):
    """The same with a way back."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return pixel_shuffle(latents, 2) / 2


class Tokens(EncodesOnly):
    """Blocks of 2 x 2 pixels become tokens, after a token of the whole image: the mean of the others."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        tokens = super().encode(images).flatten(2)
        return torch.cat([tokens.mean(2, keepdim=True), tokens], 2)

    def spread(self, maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        grid = maps[..., 1:].unflatten(-1, [length // 2 for length in size])
        pixels = spread_map(grid, 2, size)
        return pixels + maps[..., :1, None] / (size[0] * size[1])
