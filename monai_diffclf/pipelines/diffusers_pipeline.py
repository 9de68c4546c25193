# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An opened pipeline: what our inferers take of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from ..classification import DenoisingClassification
from ..inferers import DiffusionClassifierInferer
from ..networks import AutoencoderSpace
from ..networks.latent_space import strides
from .networks import PipelineNetwork
from .prompts import PromptConditioning

__all__ = ["DiffusersPipeline"]

AVERAGES = ("errors", "embeddings")
BATCH_SIZE = 8


@dataclass(frozen=True, eq=False, repr=False)
class DiffusersPipeline:
    """A text-to-image pipeline that :func:`monai_diffclf.pipelines.open_diffusers_pipeline` has opened.

    Its parts are what inferers, losses, samplers and `DenoisingPrepareBatch` take; `classify` puts them together.

    Args:
        kind: the pipeline's name in diffusers.
        classes: names of the classes K in the order of their labels.
        prompts: the prompts of each class.
        network: the denoising network, called the MONAI way.
        scheduler: the noise it was trained with, as a MONAI scheduler.
        by_prompt: arguments of the network by prompt, class by class; the null prompt is the last.
        latent_space: the autoencoder.
    """

    kind: str
    classes: list[str]
    prompts: tuple[tuple[str, ...], ...]
    network: PipelineNetwork
    scheduler: Scheduler
    by_prompt: PromptConditioning
    latent_space: AutoencoderSpace

    def __repr__(self) -> str:
        return f"DiffusersPipeline({self.kind}, {dict(zip(self.classes, self.prompts, strict=True))})"

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def prompts_per_class(self) -> list[int]:
        """Number of prompts of each class [K]."""
        return [len(each) for each in self.prompts]

    @property
    def conditioning(self) -> PromptConditioning:
        """Arguments of the network by class, index K the null prompt; several prompts' embeddings are averaged."""
        return self.by_prompt.averaged(self.prompts_per_class)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Size [H, W] of the images that it was made for; None where its folder does not say."""
        size = getattr(self.network.config, "sample_size", None)
        if size is None:
            return None
        height, width = (size, size) if isinstance(size, int) else size
        down, across = strides(self.latent_space.stride, 2)
        return int(height) * down, int(width) * across

    def check_image_size(self, size: Sequence[int]) -> None:
        """Refuse a size [H, W] of images that its parts cannot take.

        Raises:
            ValueError: when the stride of the autoencoder, times the patch of a transformer, does not divide it, or it
                is larger than the positions that the transformer knows.
        """
        stride, patch = strides(self.latent_space.stride, 2), self.network.patch_size
        steps = [patch * step for step in stride]
        if any(length % step for length, step in zip(size, steps, strict=True)):
            what = "the stride of its autoencoder" + (" times the patch of its transformer" if patch > 1 else "")
            raise ValueError(
                f"image_size: expected a size that {steps} divides, {what}, got {list(size)}; of images of another "
                "size the middle is taken and resized"
            )
        most = self.network.most_latents
        if most is not None and any(length > most * step for length, step in zip(size, stride, strict=True)):
            raise ValueError(
                f"image_size: expected at most {[most * step for step in stride]}, as far as the positions of its "
                f"transformer reach, got {list(size)}"
            )

    def inferer(self, prompt_average: str = "errors", **settings: Any) -> DiffusionClassifierInferer:
        """An inferer for the pipeline's network and classes.

        Args:
            prompt_average: of classes with several prompts: "errors" denoises under each prompt and averages the
                errors, which costs an evaluation a prompt; "embeddings" denoises once, under the mean of the prompts'
                embeddings. With one prompt a class they are the same.
            settings: further arguments of :class:`monai_diffclf.inferers.DiffusionClassifierInferer`. The batch size
                is 8 unless given.

        Raises:
            ValueError: when ``prompt_average`` is neither.
        """
        if prompt_average not in AVERAGES:
            raise ValueError(f"prompt_average: expected one of {list(AVERAGES)}, got {prompt_average!r}")
        each = prompt_average == "errors" and max(self.prompts_per_class) > 1
        return DiffusionClassifierInferer(
            self.scheduler,
            self.num_classes,
            conditioning=self.by_prompt if each else self.conditioning,
            conditions_per_class=self.prompts_per_class if each else None,
            latent_space=self.latent_space,
            **{"batch_size": BATCH_SIZE, **settings},
        )

    def classify(
        self, images: torch.Tensor, prompt_average: str = "errors", *, error_maps: bool = False, **settings: Any
    ) -> DenoisingClassification:
        """Classify images [B, C, H, W] in [-1, 1] by the class whose prompt explains them best.

        Args:
            images: images, with the channels that the pipeline was opened for.
            prompt_average: see :meth:`inferer`.
            error_maps: also where each class explains the image.
            settings: see :meth:`inferer`.
        """
        return self.inferer(prompt_average, **settings).classify(images, self.network, error_maps=error_maps)
