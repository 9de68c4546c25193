# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A diffusion classifier as an ordinary network: image in, class probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:  # inferers import networks; at run time the inferer arrives as an argument
    from ...inferers import DiffusionClassifierInferer

__all__ = ["DiffusionClassifier"]


class DiffusionClassifier(nn.Module):
    """A denoiser and the inferer that classifies with it, as one `nn.Module`: images [B, C, \*spatial] to probabilities [B, K].

    So bundles (`network_def`), `verify_net_in_out`, export, occlusion maps and MONAI Deploy see a usual classifier. Training the
    denoiser is another matter: this module only classifies, in eval mode.

    Args:
        network: the denoiser; a submodule, so that a checkpoint of this module holds its weights under ``network.``.
        inferer: the classifier's settings.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> from monai_diffclf.inferers import DiffusionClassifierInferer
        >>> from monai_diffclf.networks.nets import WaveletDiffusionUNet
        >>> unet = WaveletDiffusionUNet(2, 1, channels=(8, 8), attention_levels=(False, False), num_res_blocks=1,
        ...     norm_num_groups=4, num_head_channels=8, num_class_embeds=3)
        >>> inferer = DiffusionClassifierInferer(DDPMScheduler(100), num_classes=2, num_draws=3)
        >>> DiffusionClassifier(unet, inferer).eval()(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 2])
    """

    def __init__(self, network: nn.Module, inferer: DiffusionClassifierInferer) -> None:
        super().__init__()
        self.network = network
        self.inferer = inferer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities [B, K]."""
        return self.inferer(images, self.network)
