# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A network trained with one noise process, called with another: diffusion models as score models, and the reverse."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers import Scheduler
from torch import nn

from .denoiser import check_prediction
from .schedulers import NoiseProcess
from .schedulers.noise_process import column

__all__ = ["RetimedNetwork"]


class RetimedNetwork(nn.Module):
    """Calls a network at the time of its own process that has the log-SNR of the time given.

    A noisy image of one process, scaled by the ratio of their alphas, is one of the other, and epsilon is the same in
    both; other predictions are computed from it. So a MONAI U-Net trained with a scheduler is scored as an SDE, a score
    network drives a MONAI scheduler, and MONAI's `DiffusionModelUNet`, whose time embedding is made for timesteps 0 to
    1000, is trained as a score network. Log-SNRs beyond the network's own schedule are given as the schedule's end.

    Args:
        network: the network, called the MONAI way.
        trained: what the network itself is called with and predicts: a MONAI scheduler or an `SDEProcess`.
        called: what this module is called with and predicts, the same way.

    Example:
        >>> from monai.networks.nets import DiffusionModelUNet
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> from monai_diffclf.networks.schedulers import SDEProcess, VPSDE
        >>> unet = DiffusionModelUNet(2, 1, 1, channels=(8, 8), attention_levels=(False, False), num_res_blocks=1,
        ...     norm_num_groups=4, num_head_channels=8, num_class_embeds=3)
        >>> scheduler = DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type="v_prediction")
        >>> score = RetimedNetwork(unet, scheduler, SDEProcess(VPSDE()))
        >>> score(torch.rand(2, 1, 8, 8), torch.tensor([0.2, 0.7]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, network: nn.Module, trained: Scheduler | NoiseProcess, called: Scheduler | NoiseProcess) -> None:
        super().__init__()
        self.network = network
        self.trained, self.called = NoiseProcess.of(trained), NoiseProcess.of(called)

    def extra_repr(self) -> str:
        """What predictions depend on beside the weights: both processes, by what is predicted and some log-SNRs."""
        return f"trained={_in_words(self.trained)}, called={_in_words(self.called)}"

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """What ``called`` predicts [B, C, *spatial] for its noisy images x at its timesteps [B]."""
        own, own_alpha, own_sigma = self.trained.at_log_snr(self.called.log_snr(timesteps))
        alpha, sigma = self.called.alpha_sigma(timesteps)
        scaled = column(own_alpha / alpha, x) * x
        prediction = check_prediction(self.network(x=scaled, timesteps=own.to(x.device), **kwargs), scaled).to(x.dtype)
        epsilon = self.trained.to_epsilon(prediction, scaled, own_alpha, own_sigma)
        return self.called.from_epsilon(epsilon, x, alpha, sigma)


def _in_words(process: NoiseProcess) -> str:
    log_snr = process.log_snr(process.timesteps(torch.linspace(0.001, 0.999, 9, dtype=torch.float64)))
    return f"{process.prediction_type} at {[round(value, 4) for value in log_snr.tolist()]}"
