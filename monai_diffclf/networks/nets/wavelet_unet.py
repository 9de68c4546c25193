# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A diffusion U-Net that works in Haar wavelet space and is called in image space."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn

from ..findings import findings_embedding
from ..layers.haar import haar_forward, haar_inverse
from ..layers.preconditioning import ChannelPreconditioning

__all__ = ["ClassToken", "WaveletDiffusionUNet"]


class ClassToken(nn.Module):
    """The class as one token for cross-attention: a row of a table, then a linear layer.

    How Favero et al. (2025) condition their U-Net: an embedding of 512 numbers and the projection of text to text size
    that diffusers' U-Net has. Both are part of the network, and so of its moving average.

    Args:
        num_class_embeds: rows of the table, K + 1 for K classes and the null class.
        channels: channels of the token.

    Example:
        >>> ClassToken(3, 8)(torch.tensor([0, 2])).shape
        torch.Size([2, 1, 8])
    """

    def __init__(self, num_class_embeds: int, channels: int) -> None:
        super().__init__()
        self.class_embedding = nn.Embedding(num_class_embeds, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, class_labels: torch.Tensor) -> torch.Tensor:
        """Tokens [B, 1, channels] of class labels [B]."""
        token: torch.Tensor = self.project(self.class_embedding(class_labels))
        return token[:, None]


class WaveletDiffusionUNet(nn.Module):
    """MONAI's `DiffusionModelUNet` between a Haar transform and its inverse.

    The transform is orthonormal: white noise stays white and squared errors keep their sum. Diffusion in image space
    with this network is therefore the same as diffusion in wavelet space with the inner one, at a quarter of the pixels
    a level (2D), while images, noise and error maps stay in image space. Favero et al. (2025) train their from-scratch
    models in such a space.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        levels: levels of the transform; the image's sizes must be multiples of 2^levels.
        num_class_tokens: rows of a table from which the class reaches the cross-attention as a token (`ClassToken`),
            K + 1 for K classes and the null class, for a U-Net with ``with_conditioning=True``; None for none.
        num_findings: findings L whose states take the place of the class, see
            :func:`monai_diffclf.networks.findings_embedding`; ``class_labels`` are then [B, L]. None for none.
        precondition: lead the noisy coefficients past the U-Net, by the spread of each channel, see
            :class:`monai_diffclf.networks.layers.ChannelPreconditioning`. Large images in colour have more coefficients
            than the U-Net has channels, so that it cannot tell of fine noise what it saw. The spreads are fitted to
            training images before the training (:func:`monai_diffclf.networks.precondition_network`) and lie with the
            weights.
        num_train_timesteps: timesteps of the scheduler, which the preconditioning knows.
        unet: further arguments of `DiffusionModelUNet`, save ``in_channels`` and ``out_channels``, which follow from
            the above.

    Raises:
        ValueError: when ``unet`` holds channels of its own, or class tokens are asked for without cross-attention or
            beside class embeddings; when labels are missing, or come with a context.

    Example:
        >>> network = WaveletDiffusionUNet(2, 1, levels=1, channels=(8, 8), attention_levels=(False, False),
        ...     num_res_blocks=1, norm_num_groups=4, num_head_channels=8, num_class_embeds=3)
        >>> network(torch.rand(2, 1, 16, 16), torch.tensor([5, 9]), class_labels=torch.tensor([0, 1])).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        levels: int = 1,
        num_class_tokens: int | None = None,
        num_findings: int | None = None,
        precondition: bool = False,
        num_train_timesteps: int = 1000,
        **unet: Any,
    ) -> None:
        super().__init__()
        if taken := {"out_channels"} & unet.keys():
            raise ValueError(f"{sorted(taken)}: follow from in_channels and levels; leave them out")
        channels = in_channels * 2 ** (spatial_dims * levels)
        if num_class_tokens is not None and not (unet.get("with_conditioning") and unet.get("cross_attention_dim")):
            raise ValueError(
                "num_class_tokens: expected with_conditioning=True and cross_attention_dim beside it, got "
                f"{unet.get('with_conditioning')!r} and {unet.get('cross_attention_dim')!r}"
            )
        if num_class_tokens is not None and unet.get("num_class_embeds") is not None:
            raise ValueError("num_class_tokens: the class reaches the network twice; leave num_class_embeds out")
        if num_findings is not None:
            if unet.get("num_class_embeds") is not None or num_class_tokens is not None:
                raise ValueError("num_findings: expected no classes beside it; an image has findings or a class")
            unet["num_class_embeds"] = 1  # has an embedding, whose place the findings' takes
        self.spatial_dims, self.levels = spatial_dims, levels
        self.unet = DiffusionModelUNet(spatial_dims=spatial_dims, in_channels=channels, out_channels=channels, **unet)
        if num_findings is not None:
            states = findings_embedding(num_findings, self.unet.class_embedding.embedding_dim)
            self.unet.register_module("class_embedding", states)
        self.class_token = (
            None if num_class_tokens is None else ClassToken(num_class_tokens, unet["cross_attention_dim"])
        )
        self.preconditioning = ChannelPreconditioning(channels, num_train_timesteps) if precondition else None

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict the target of the noisy images ``x`` [B, C, *spatial] at ``timesteps`` [B]."""
        if self.class_token is not None:
            if class_labels is None or context is not None:
                raise ValueError(
                    "class_labels: expected labels [B] and no context, as the network makes the context of the class"
                )
            context, class_labels = self.class_token(class_labels), None
        coefficients = haar_forward(x, self.levels, spatial_dims=self.spatial_dims)
        if self.spatial_dims == 2:
            # The convolutions of 2D networks run faster on this layout; the values are the same.
            coefficients = coefficients.contiguous(memory_format=torch.channels_last)
        if self.preconditioning is None:
            prediction = self.unet(coefficients, timesteps=timesteps, context=context, class_labels=class_labels)
        else:
            scaled, known, left = self.preconditioning(coefficients, timesteps)
            output = self.unet(scaled, timesteps=timesteps, context=context, class_labels=class_labels)
            prediction = known + left * output
        return haar_inverse(prediction, self.levels, spatial_dims=self.spatial_dims)
