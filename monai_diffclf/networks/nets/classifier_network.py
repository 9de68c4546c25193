# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A diffusion classifier as an ordinary network: image in, class probabilities out."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn

__all__ = ["DiffusionClassifier"]


class DiffusionClassifier(nn.Module):
    """A denoiser and the inferer that classifies with it, as one `nn.Module`.

    From images [B, C, *spatial] to probabilities [B, K]. So bundles (`network_def`), `verify_net_in_out`, export,
    occlusion maps and MONAI Deploy see a usual classifier. Training the denoiser is another matter: this module only
    classifies, in eval mode.

    Args:
        network: the denoiser. A checkpoint of the denoiser alone loads into this module too, so that one file of
            weights serves training, inference and whatever loads a bundle's `network_def`.
        inferer: what classifies with the denoiser, a :class:`~monai_diffclf.inferers.DiffusionClassifierInferer` or
            another inferer that returns probabilities.

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

    def __init__(self, network: nn.Module, inferer: Inferer) -> None:
        super().__init__()
        self.network = network
        self.inferer = inferer
        self.register_load_state_dict_pre_hook(self._accept_denoiser)

    @staticmethod
    def _accept_denoiser(module: Any, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Give a denoiser's keys the prefix that they have here."""
        own = f"{prefix}network."
        # By the names that are there: those of a denoiser may begin with "network." as well.
        denoiser = module.network.state_dict()
        if not any(own + name in state_dict for name in denoiser):
            renamed = {
                own + key[len(prefix) :]: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)
            }
            state_dict.update(renamed)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities [B, K]."""
        probabilities: torch.Tensor = self.inferer(images, self.network)
        return probabilities
