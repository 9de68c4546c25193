"""An encoder small enough for tests, that configurations can name."""

from __future__ import annotations

import torch

from monai_diffclf.representations import Encoder


def make_tiny_encoder(seed: int = 0) -> Encoder:
    """Maps [B, 12, h / 8, w / 8] of grey images; always the same weights for a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 4, 4), torch.nn.ReLU(), torch.nn.Conv2d(6, 12, 2, 2))
    return Encoder(network.eval(), ["2"], name="tiny", in_channels=1, image_size=16)
