"""Small latent spaces for the tests."""

from __future__ import annotations

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


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
