# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The noise of a diffusers scheduler as a MONAI scheduler."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler, Scheduler

from ..networks.schedulers import PREDICTION_TYPES

__all__ = ["monai_scheduler"]


def monai_scheduler(scheduler: Any) -> Scheduler:
    """The MONAI scheduler with the noise levels of a diffusers scheduler, for our inferers, losses and samplers.

    Whatever solver a pipeline samples with (DDIM, PNDM, Euler, DPM-Solver, ...), its network was trained with the table
    ``alphas_cumprod`` that the scheduler holds: that table is taken over, number by number, into a `DDPMScheduler`.
    Flow matching (SD 3) is z = (1 - t / T) x + (t / T) epsilon, MONAI's `RFlowScheduler` with continuous timesteps; a
    shift of the scheduler's sampling steps changes where a sampler stops, not what a timestep means. The network's
    velocity, epsilon - x, has the other sign than MONAI's.

    Args:
        scheduler: a scheduler of diffusers.

    Raises:
        ValueError: when it is of another family, such as EDM's, or predicts something else.

    Example:
        >>> class Config:
        ...     num_train_timesteps, prediction_type = 4, "v_prediction"
        >>> class Scheduler:
        ...     config, alphas_cumprod = Config(), torch.tensor([0.9, 0.7, 0.4, 0.1])
        >>> made = monai_scheduler(Scheduler())
        >>> made.prediction_type, made.alphas_cumprod
        ('v_prediction', tensor([0.9000, 0.7000, 0.4000, 0.1000]))
    """
    name, config = type(scheduler).__name__, scheduler.config
    steps = int(config.num_train_timesteps)
    if name.startswith("FlowMatch"):
        return RFlowScheduler(num_train_timesteps=steps, use_discrete_timesteps=False)
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise ValueError(
            f"scheduler: expected one of diffusers with alphas_cumprod, or of flow matching, got {name}; the noise of "
            "other families is not known here"
        )
    prediction = getattr(config, "prediction_type", "epsilon")
    if prediction not in PREDICTION_TYPES:
        raise ValueError(f"scheduler: expected prediction_type in {list(PREDICTION_TYPES)}, got {prediction!r}")
    made = DDPMScheduler(num_train_timesteps=steps, prediction_type=prediction)
    made.alphas_cumprod = table.detach().float().cpu().clone()
    before = torch.cat([torch.ones(1), made.alphas_cumprod[:-1]])
    made.alphas = made.alphas_cumprod / before
    made.betas = 1 - made.alphas
    return made
