# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Networks of diffusers pipelines, called the MONAI way."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
from torch import nn

__all__ = ["PipelineNetwork", "TextTransformer", "TextUNet"]


class PipelineNetwork(nn.Module):
    """A denoising network of diffusers, called as ``network(x=..., timesteps=..., context=..., ...)``.

    Args:
        model: the network of diffusers.
    """

    part: str
    """Name of the network in the pipeline and its folder."""

    patch_size: int = 1
    """Latent pixels along a side that the network takes together: the size of latents must be a multiple of it."""

    most_latents: int | None = None
    """Latent pixels along a side at most; None for any number."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    @property
    def config(self) -> Any:
        """The network's settings."""
        return self.model.config

    @property
    @abstractmethod
    def widths(self) -> dict[str, int]:
        """Width of each argument that comes from the prompt."""

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the dtype of the network's weights."""
        return tensor.to(next(self.model.parameters()).dtype)


class TextUNet(PipelineNetwork):
    """The U-Net of Stable Diffusion 1 and 2, and with ``text_embeds`` that of SDXL.

    SDXL is told the size of the training picture, where it was cropped, and the size wanted (Podell et al. 2023,
    section 2.2): here the image's own size, twice, uncropped.

    Args:
        model: diffusers' `UNet2DConditionModel`.
        stride: size of a latent pixel in image pixels, which tells the size of the image.

    Raises:
        ValueError: when it takes more than a noisy image, a timestep and a prompt.
    """

    part = "unet"

    def __init__(self, model: nn.Module, stride: int) -> None:
        super().__init__(model)
        self.stride, settings = stride, self.config
        for name in ("class_embed_type", "time_cond_proj_dim", "encoder_hid_dim_type", "num_class_embeds"):
            if getattr(settings, name, None) is not None:
                raise ValueError(
                    f"folder: expected a U-Net of noisy latents, timesteps and prompts, got one with {name} = "
                    f"{getattr(settings, name)!r}"
                )
        added = getattr(settings, "addition_embed_type", None)
        if added not in (None, "text_time"):
            raise ValueError(f"folder: expected addition_embed_type None or 'text_time' (SDXL), got {added!r}")
        self.sized = added == "text_time"
        if self.sized and self.widths["text_embeds"] < 1:
            raise ValueError(
                "folder: expected the six sizes of SDXL's base model beside the pooled prompt, got a U-Net with "
                f"projection_class_embeddings_input_dim {settings.projection_class_embeddings_input_dim}"
            )

    @property
    def widths(self) -> dict[str, int]:
        """Width of the prompt's tokens, and of SDXL's pooled prompt."""
        settings, found = self.config, {"context": int(self.config.cross_attention_dim)}
        if getattr(settings, "addition_embed_type", None) == "text_time":
            sizes = 6 * int(settings.addition_time_embed_dim)
            found["text_embeds"] = int(settings.projection_class_embeddings_input_dim) - sizes
        return found

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, text_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the network predicts [B, c, h, w].

        Args:
            x: noisy latents [B, c, h, w].
            timesteps: timesteps [B].
            context: tokens of the prompts [B, L, D].
            text_embeds: pooled prompts [B, P], of SDXL.
        """
        added = None
        if self.sized and text_embeds is not None:
            size = [float(length * self.stride) for length in x.shape[2:]]
            time_ids = x.new_tensor([*size, 0.0, 0.0, *size]).expand(len(x), -1)
            added = {"text_embeds": self.cast(text_embeds), "time_ids": time_ids}
        tokens = self.cast(context)
        made = self.model(
            self.cast(x), timesteps, encoder_hidden_states=tokens, added_cond_kwargs=added, return_dict=False
        )
        return cast(torch.Tensor, made[0]).to(x.dtype)


class TextTransformer(PipelineNetwork):
    """The transformer of Stable Diffusion 3, with MONAI's sign of the velocity: x - epsilon.

    Args:
        model: diffusers' `SD3Transformer2DModel`.
    """

    part = "transformer"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.patch_size = int(self.config.patch_size)
        self.most_latents = int(self.config.pos_embed_max_size) * self.patch_size

    @property
    def widths(self) -> dict[str, int]:
        """Width of the prompt's tokens and of the pooled prompt."""
        joint, pooled = self.config.joint_attention_dim, self.config.pooled_projection_dim
        return {"context": int(joint), "text_embeds": int(pooled)}

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, text_embeds: torch.Tensor
    ) -> torch.Tensor:
        """The velocity x - epsilon [B, c, h, w].

        Args:
            x: noisy latents [B, c, h, w].
            timesteps: timesteps in [0, 1000] [B].
            context: tokens of the prompts [B, L, D].
            text_embeds: pooled prompts [B, P].
        """
        made = self.model(
            self.cast(x),
            encoder_hidden_states=self.cast(context),
            pooled_projections=self.cast(text_embeds),
            timestep=timesteps,
            return_dict=False,
        )
        return -cast(torch.Tensor, made[0]).to(x.dtype)
