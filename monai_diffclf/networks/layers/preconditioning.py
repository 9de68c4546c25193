# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What noise tells of a channel by its spread alone, taken off a network's hands."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from monai.networks.schedulers import Scheduler
from torch import nn

from ..schedulers.noise_process import NoiseProcess, column

__all__ = ["ChannelPreconditioning"]

_SMALLEST = 1e-3  # spread of a channel that never changes; images lie in [-1, 1]


class ChannelPreconditioning(nn.Module):
    """Scales a network's input and output, and leads the input past it, by the spread of each channel.

    Let a channel of the clean images have the root mean square s, z = alpha x + sigma epsilon, and the target of the
    network be p = a x + b epsilon (see :class:`monai_diffclf.networks.schedulers.NoiseProcess`). The best linear
    guess of p is c_skip z, and what is left of p has the spread c_out:

        c_skip = (a alpha s^2 + b sigma) / (alpha^2 s^2 + sigma^2),
        c_out = s |a sigma - b alpha| / (alpha^2 s^2 + sigma^2)^(1/2),    c_in = (alpha^2 s^2 + sigma^2)^(-1/2).

    The network F gets c_in z and gives what is left: p_hat = c_skip z + c_out F(c_in z). That is the preconditioning of
    Karras et al. (2022, table 1), there for one s of all channels and another noise process. A network that works on
    many channels, as wavelet coefficients are, need not carry the noise of the fine ones through its layers, for which
    it may not have the width. For s = 1 and the velocity of a variance preserving process it changes nothing.

    Args:
        channels: channels C of what the network is called with.
        num_train_timesteps: timesteps of the scheduler, T.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> scheduler = DDPMScheduler(1000, schedule="cosine", prediction_type="v_prediction")
        >>> images = torch.full((8, 1, 4, 4), 0.5)
        >>> layer = ChannelPreconditioning(1).fit(scheduler, [images])
        >>> scaled, known, left = layer(torch.ones(1, 1, 4, 4), torch.tensor([500]))
        >>> round(float(layer.std), 3), known.shape, left.shape
        (0.5, torch.Size([1, 1, 4, 4]), torch.Size([1, 1, 1, 1]))
    """

    std: torch.Tensor
    factors: torch.Tensor

    def __init__(self, channels: int, num_train_timesteps: int = 1000) -> None:
        super().__init__()
        self.register_buffer("std", torch.zeros(channels))
        self.register_buffer("factors", torch.zeros(num_train_timesteps + 1, 4))
        self._known = False

    @property
    def fitted(self) -> bool:
        """Whether the spreads are known, by `fit` or by weights that were loaded."""
        return bool((self.std > 0).all())

    @torch.no_grad()
    def fit(self, scheduler: Scheduler | NoiseProcess, batches: Iterable[torch.Tensor]) -> ChannelPreconditioning:
        """Measure the spread of each channel.

        Args:
            scheduler: what the network is trained with; its timesteps are as many as those of this layer.
            batches: what the network is called with for clean images [B, C, *spatial].

        Raises:
            ValueError: when there are no images, values that are not finite, or other channels or timesteps.
        """
        process = NoiseProcess.of(scheduler)
        steps = len(self.factors) - 1
        if process.num_train_timesteps != steps:
            raise ValueError(
                f"scheduler: expected {steps} timesteps, as the preconditioning is made for, got "
                f"{process.num_train_timesteps}; give num_train_timesteps"
            )
        squares, count = torch.zeros(len(self.std), dtype=torch.float64), 0
        for batch in batches:
            if batch.ndim < 3 or batch.shape[1] != len(self.std):
                raise ValueError(f"batches: expected [B, {len(self.std)}, *spatial], got {list(batch.shape)}")
            values = batch.detach().double().cpu().transpose(0, 1).flatten(1)
            squares, count = squares + values.square().sum(1), count + values.shape[1]
        if not count or not bool(torch.isfinite(squares).all()):
            raise ValueError("batches: expected images with finite values, got none or others")
        self.std.copy_((squares / count).sqrt().clamp(min=_SMALLEST))
        # One row more, so that times between the last timestep and the end can be looked up too.
        timesteps = torch.arange(steps + 1).clamp(max=steps - 1 if process.discrete else steps)
        alpha, sigma = process.alpha_sigma(timesteps)
        self.factors.copy_(torch.stack([alpha, sigma, *process.mixture(alpha, sigma)], 1))
        return self

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """c_in z [B, C, *spatial], what to call the network F with; c_skip z and c_out, of the prediction.

        Args:
            z: noisy coefficients [B, C, *spatial].
            timesteps: timesteps [B], whole or between.

        Raises:
            ValueError: when the spreads are not known.
        """
        if not self._known and not self.fitted:
            raise ValueError(
                "precondition: expected a network whose preconditioning was fitted to training images, or loaded with "
                "its weights, got one of neither; see precondition_network"
            )
        self._known = True  # looked up once: it waits for a GPU
        alpha, sigma, a, b = (factor[:, None] for factor in self._at(timesteps).unbind(1))
        variance = (alpha * self.std) ** 2 + sigma**2  # [B, C]
        skip = (a * alpha * self.std**2 + b * sigma) / variance
        left = self.std * (a * sigma - b * alpha).abs() / variance.sqrt()
        return z * _over(variance.rsqrt(), z), z * _over(skip, z), _over(left, z)

    def _at(self, timesteps: torch.Tensor) -> torch.Tensor:
        """alpha, sigma, a and b at timesteps [B, 4], linearly between whole ones."""
        times = timesteps.reshape(-1).to(self.factors).clamp(0, len(self.factors) - 1)
        below = times.floor().long()
        above = (below + 1).clamp(max=len(self.factors) - 1)
        return torch.lerp(self.factors[below], self.factors[above], column(times - below, self.factors))


def _over(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values [B, C] shaped to multiply [B, C, *spatial]."""
    return values.to(like.dtype).reshape(*values.shape, *[1] * (like.ndim - 2))
