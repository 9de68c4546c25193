# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Counterfactuals: this image, had it been of another class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.networks.schedulers import Scheduler
from tqdm import tqdm

from .._checks import check_images, check_integer
from ..networks.class_use import check_embeddings, check_uses_classes
from ..networks.conditioning import Conditioning, make_conditioning, split_conditions
from ..networks.denoiser import Denoiser
from ..networks.latent_space import LatentSpace, check_decodes, check_latent_space, encode
from ..networks.schedulers.noise_process import NoiseProcess
from .counterfactual_edit import EditedBatch, EditSettings, Judge, PairEdit
from .counterfactual_inputs import check_mask, check_null_class, choose_classes
from .counterfactual_result import Counterfactuals

__all__ = ["CounterfactualGenerator"]


class CounterfactualGenerator:
    """Edit images towards another class with the diffusion model that classifies them.

    * ``"invert"``: follow the own class's deterministic path up to ``start`` (DDIM inversion, solved so that it leads
      back to the image) and the target's down (Song et al. 2021).
    * ``"sample"``: noise the image to ``start`` and denoise by ancestral sampling, each step clipped, with the same
      noise for factual and counterfactual (Favero et al. 2025; their settings are start 0.5, guidance 4.5, 50 steps,
      ``guide_away="null"``).

    Guidance pushes a prediction from a class that it moves away from: (1 + w) f(z, k) - w f(z, away). Away from the own
    class, ``"source"``, the counterfactual gets what tells the two classes apart; the factual, whose classes are the
    same, gets none, and with ``"invert"`` it stays the image. Away from the ``"null"`` class, as in classifier-free
    guidance, both are driven towards typical images of their class; it needs a model trained with label dropout.

    An edit can be kept to a mask, and found by ``edit_fraction``: where the error maps say that the own class fits
    better and a first edit without mask changes the image (the product of the two).

    The result of an image depends on its pixels, the network and these settings, not on the batch (up to the rounding
    of the network).

    Args:
        scheduler: the scheduler the network was trained with.
        num_classes: number of classes K.
        method: ``"invert"`` or ``"sample"``.
        start: how far up to go, as a share of the noise schedule in (0, 1]: further changes more.
        num_steps: noise levels of a path. An image costs 3 network evaluations a level, 4 away from the null class, and
            with ``"invert"`` 2 more.
        guidance: w of the guidance, 0 for none. Of several, rising, each image gets the first with which the inferer
            takes it for the target, or the last.
        guide_away: ``"source"`` or ``"null"``.
        edit_fraction: share of the pixels to edit, such as 0.02, found as said above; None edits everywhere.
        seed: seed of the noise of ``"sample"``.
        conditioning: see :mod:`monai_diffclf.networks.conditioning`.
        batch_size: network evaluations in one forward call.
        clip: range of the images; None for none.
        label_dropout: share of the labels dropped in training, needed for guidance away from the null class, which is
            refused with 0. Weights do not tell whether a network ever saw that class.
        max_drift: drift of a factual, in the images' units, above which it counts as drifted.
        progress: show a progress bar.
        latent_space: the space the network works in, one that can decode; None for pixels. Edits are made on latents;
            ``clip``, masks and changes stay those of images.

    Raises:
        TypeError: when the scheduler or the conditioning is of the wrong kind.
        ValueError: when another argument is out of range.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Denoiser(torch.nn.Module):  # knows that class k is the constant image k
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return class_labels.view(-1, 1, 1, 1).expand_as(x).float()
        >>> scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="sample")
        >>> generator = CounterfactualGenerator(scheduler, num_classes=2, guidance=0.0)
        >>> pair = generator(torch.zeros(1, 1, 4, 4), Denoiser().eval(), source=torch.tensor([0]))
        >>> round(pair.factual.mean().item(), 2), round(pair.counterfactual.mean().item(), 2)
        (0.0, 1.0)
    """

    def __init__(
        self,
        scheduler: Scheduler | NoiseProcess,
        num_classes: int = 2,
        *,
        method: str = "invert",
        start: float = 0.5,
        num_steps: int = 20,
        guidance: float | Sequence[float] = 2.0,
        guide_away: str = "source",
        edit_fraction: float | None = None,
        seed: int = 0,
        conditioning: str | Conditioning = "class_labels",
        batch_size: int = 256,
        clip: Sequence[float] | None = (-1.0, 1.0),
        label_dropout: float | None = None,
        max_drift: float = 0.05,
        progress: bool = False,
        latent_space: LatentSpace | None = None,
    ) -> None:
        self.latent_space = check_latent_space(latent_space)
        check_decodes(self.latent_space, "counterfactuals")
        self.settings = EditSettings(
            NoiseProcess.of(scheduler),
            num_classes=num_classes,
            method=method,
            start=start,
            num_steps=num_steps,
            guidance=tuple(guidance) if isinstance(guidance, Sequence) else (guidance,),
            guide_away=guide_away,
            edit_fraction=edit_fraction,
            seed=seed,
            clip=clip,
            max_drift=max_drift,
        )
        if label_dropout is not None and not 0 <= label_dropout < 1:
            raise ValueError(f"label_dropout: expected a share in [0, 1), or None, got {label_dropout!r}")
        if self.settings.uses_null and not label_dropout:
            raise ValueError(
                "guidance: expected 0 away from the null class of a model trained without label dropout, which never "
                f"saw that class; got {guidance} with label_dropout={label_dropout}. Give that of the training, "
                "set guide_away='source', or train with label dropout"
            )
        batch_size = check_integer(batch_size, "batch_size")
        self.conditioning, self.num_classes = make_conditioning(conditioning, num_classes), num_classes
        self.batch_size, self.progress = batch_size, progress

    @torch.no_grad()
    def __call__(
        self,
        images: torch.Tensor,
        network: Callable[..., Any],
        *,
        target: torch.Tensor | None = None,
        source: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        inferer: Callable[..., torch.Tensor] | None = None,
        baseline: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> Counterfactuals:
        """Counterfactuals of a batch of images.

        Args:
            images: images [B, C, *spatial], 2D or 3D, finite, scaled as the network was trained.
            network: the denoiser in eval mode.
            target: class of each counterfactual [B]; None for the most probable class after the source, by the inferer
                (of two classes: the other one).
            source: own class of each image [B]; None for the class that the inferer finds.
            mask: where to edit [B, 1, *spatial], 0 to 1, such as from `mask_from_map`; the rest stays as it is.
            inferer: the diffusion classifier, called as inferer(images, network): probabilities [B, K].
            baseline: another classifier, from images to probabilities or logits [B, K].
            kwargs: further arguments for the network.

        Raises:
            TypeError: when the images are not floating point, or no inferer is given where one is needed.
            ValueError: when the network is in training mode or lacks the null class that guidance needs, classes
                cannot be told, or shapes or values are wrong.

        Warns:
            UserWarning: when factuals drift from their images by more than ``max_drift``.
        """
        images = check_images(images, network, min_images=1).float()
        settings = self.settings
        if settings.uses_null:
            check_null_class(network, self.num_classes)
        searches = mask is None and settings.edit_fraction is not None
        if inferer is None and (searches or len(settings.guidance) > 1):
            raise TypeError(
                "inferer: expected the diffusion classifier, which edit_fraction and several guidances need, got None"
            )
        judge = None if inferer is None else _judge(inferer, network, kwargs, len(images))
        source, target = choose_classes(images, self.num_classes, source, target, judge)
        masks = None if mask is None else check_mask(mask, images)
        evidence = _evidence(inferer, images, network, source, target, kwargs) if searches else None
        latents = encode(self.latent_space, images)
        if latents.ndim != images.ndim:
            raise ValueError(
                "latent_space: expected latents with the axes of the image, which counterfactuals need, got tokens "
                f"{list(latents.shape[1:])}"
            )
        denoiser = Denoiser(
            network,
            settings.process,
            self.num_classes,
            conditioning=self.conditioning,
            conditions=kwargs,
            num_images=len(images),
            null_class=settings.uses_null,
            batch_size=self.batch_size,
            device=images.device,
        )
        check_embeddings(denoiser, latents, null_class=settings.uses_null)
        whole = EditedBatch(images, latents, self.latent_space)
        parts = []
        with tqdm(total=len(images), unit="image", disable=not self.progress) as bar:
            for rows in torch.arange(len(images), device=images.device).split(self.batch_size):
                edit = PairEdit(settings, denoiser, whole[rows], source[rows], target[rows])
                where = edit.find_mask(evidence[rows]) if evidence is not None else None
                parts.append(edit.run(judge, where if masks is None else masks[rows]))
                bar.update(len(rows))
        result = Counterfactuals.concatenate(parts)
        if torch.equal(result.factual, result.counterfactual) and not torch.equal(source, target):
            check_uses_classes(denoiser, latents)
        self._warn(result)
        if baseline is None:
            return result
        found = torch.as_tensor(baseline(result.counterfactual)).argmax(1).to(target.device)
        return replace(result, flipped_baseline=found == target)

    def _warn(self, result: Counterfactuals) -> None:
        """Say that not all that differs from an image is the class's."""
        if bool(result.drifted.any()):
            warnings.warn(
                f"{int(result.drifted.sum())} of {len(result)} factuals differ from their images by more than "
                f"max_drift = {self.settings.max_drift} on average (up to {float(result.drift.max()):.3g}), so that "
                "not all of a difference is the class's: look at effect (factual - counterfactual), or use a lower "
                "start, less guidance or method='invert'",
                UserWarning,
                stacklevel=3,
            )


def _judge(inferer: Any, network: Callable[..., Any], kwargs: dict[str, Any], count: int) -> Judge:
    """The classifier of all images, or of those with some indices, each with its own conditions."""
    own, shared = split_conditions(kwargs, count)

    def judge(images: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        each = own if index is None else {name: value[index.to(value.device)] for name, value in own.items()}
        probabilities: torch.Tensor = inferer(images, network, **each, **shared)
        return probabilities

    return judge


def _evidence(
    inferer: Any,
    images: torch.Tensor,
    network: Callable[..., Any],
    source: torch.Tensor,
    target: torch.Tensor,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """How much better the own class explains each pixel than the target [B, *spatial]."""
    if not hasattr(inferer, "error_maps"):
        raise TypeError(
            f"inferer: expected one with error_maps, which edit_fraction needs, got {type(inferer).__name__}; pass a "
            "mask instead"
        )
    maps: torch.Tensor = inferer.error_maps(images, network, **kwargs).to(images)
    every = torch.arange(len(images), device=images.device)
    return maps[every, target] - maps[every, source]
