# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Any denoising network in Haar wavelet space, called in image space."""

from __future__ import annotations

import torch
from torch import nn

from ..layers.haar import check_levels, haar_forward, haar_inverse

__all__ = ["WaveletNetwork"]


class WaveletNetwork(nn.Module):
    """A network, such as a `DiT`, between an orthonormal Haar transform and its inverse.

    The same as `WaveletDiffusionUNet` for networks of other kinds: noise, images and error maps stay in image space.
    The DiT of Favero et al. (2025) sees colour images of 256 pixels as 12 channels of 128.

    Args:
        network: what is called with coefficients [B, C 2^(levels spatial_dims), *(spatial / 2^levels)], and gives as
            many channels back.
        levels: levels of the transform; the image's sizes must be multiples of 2^levels.
        spatial_dims: 2 or 3.

    Raises:
        TypeError: when ``network`` is no `nn.Module`.
        ValueError: when ``levels`` is not positive or ``spatial_dims`` is neither 2 nor 3.

    Example:
        >>> from monai_diffclf.networks.nets import DiT
        >>> inner = DiT(2, 4, input_size=8, patch_size=4, hidden_size=16, num_layers=1, num_heads=2, num_class_embeds=3)
        >>> network = WaveletNetwork(inner)
        >>> network(torch.rand(2, 1, 16, 16), torch.tensor([5, 9]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, network: nn.Module, *, levels: int = 1, spatial_dims: int = 2) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}")
        check_levels(levels)
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, got {spatial_dims!r}")
        self.network, self.levels, self.spatial_dims = network, levels, spatial_dims

    def extra_repr(self) -> str:
        """What predictions depend on beside the weights."""
        return f"levels={self.levels}, spatial_dims={self.spatial_dims}"

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict the target of the noisy images ``x`` [B, C, *spatial] at ``timesteps`` [B]."""
        coefficients = haar_forward(x, self.levels, spatial_dims=self.spatial_dims)
        prediction = self.network(coefficients, timesteps=timesteps, context=context, class_labels=class_labels)
        return haar_inverse(prediction, self.levels, spatial_dims=self.spatial_dims)
