"""A U-Net small enough for tests, with random weights throughout: MONAI starts some of them at zero."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet

from monai_diffclf.networks.nets import WaveletDiffusionUNet


def tiny_unet(
    conditioning: str = "class_labels",
    *,
    classes: int = 2,
    channels: int = 1,
    dims: int = 2,
    wavelet: bool = False,
    seed: int | None = 0,
    **settings: Any,
) -> torch.nn.Module:
    """A U-Net of two levels in eval mode.

    Args:
        conditioning: "class_labels" or "crossattn".
        classes: number of classes, without the null class.
        channels: channels of the images.
        dims: 2 or 3.
        wavelet: a WaveletDiffusionUNet instead of MONAI's U-Net.
        seed: seed of the weights; None for those the network starts with.
        settings: further settings of the network.
    """
    how: dict[str, Any] = (
        {"num_class_embeds": classes + 1}
        if conditioning == "class_labels"
        else {"with_conditioning": True, "cross_attention_dim": classes + 1}
    )
    settings = {
        "channels": (4, 8),
        "attention_levels": (False, False),
        "num_res_blocks": 1,
        "norm_num_groups": 4,
        "num_head_channels": 4,
        **how,
        **settings,
    }
    network: torch.nn.Module = (
        WaveletDiffusionUNet(dims, channels, **settings)
        if wavelet
        else DiffusionModelUNet(dims, channels, channels, **settings)
    )
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return network.eval()
