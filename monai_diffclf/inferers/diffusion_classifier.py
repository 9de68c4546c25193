# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A MONAI inferer that classifies with a class-conditional diffusion model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.schedulers import Scheduler

from ..classification import Classification, DenoisingErrors, NoiseDraws, StoppingRule, classify_errors, image_keys
from ..classification.rules import RULES, WEIGHTINGS
from ..networks.conditioning import Conditioning, make_conditioning
from ..networks.schedulers.noise_process import NoiseProcess

__all__ = ["DiffusionClassifierInferer"]


class DiffusionClassifierInferer(Inferer):
    """Classify images by how well a diffusion model denoises them under each class.

    For draw n of N: noise the image, z = alpha_n x + sigma_n epsilon_n, let the network predict the noise under every
    class k from the same z, and keep e[k, n] = mean (epsilon_n - epsilon_hat(z, k))^2. The class with most smallest
    errors (``rule="vote"``, Favero et al. 2025) or the smallest mean error (``rule="mean"``, Li et al. 2023, equation
    5) wins. No guidance is used.

    The result of an image depends on its pixels, the network, the seed and these settings only: not on the batch, the
    order, the other images or ``batch_size``, up to the rounding of the network itself, whose kernels may sum in
    another order for another batch size (relative 1e-5 in float32).

    Args:
        scheduler: the scheduler the network was trained with: DDPM, DDIM or PNDM (epsilon, sample, v_prediction), or
            RFlow.
        num_classes: number of classes K.
        num_draws: noise draws an image, N.
        rule: ``"vote"`` or ``"mean"``, see :func:`monai_diffclf.classification.classify_errors`.
        noise_levels: ``"stratified"`` or ``"uniform"``, see :class:`monai_diffclf.classification.NoiseDraws`.
        conditioning: how a class reaches the network: ``"class_labels"``, ``"crossattn"`` or a callable from labels [B]
            to keyword arguments, see :mod:`monai_diffclf.networks.conditioning`.
        stopping: None for all draws, or a stopping rule such as :class:`monai_diffclf.classification.CurtailedVote`.
        batch_size: network evaluations in one forward call: bounds memory, never changes a result.
        seed: seed of the noise levels and of the noise.
        weighting: weighting of the mean error: ``"uniform"``, ``"elbo"`` or ``"min_snr"``.
        temperature: temperature of the probabilities from the mean error.

    Raises:
        TypeError: when the scheduler, the conditioning or the stopping rule is of the wrong kind.
        ValueError: when another argument is out of range.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Denoiser(torch.nn.Module):  # knows that class k is the constant image k
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return class_labels.view(-1, 1, 1, 1).expand_as(x).float()
        >>> scheduler = DDPMScheduler(num_train_timesteps=100, schedule="cosine", prediction_type="sample")
        >>> inferer = DiffusionClassifierInferer(scheduler, num_classes=2, num_draws=5)
        >>> inferer.classify(torch.ones(1, 1, 8, 8), Denoiser().eval()).predicted
        tensor([1])
    """

    def __init__(
        self,
        scheduler: Scheduler,
        num_classes: int = 2,
        *,
        num_draws: int = 51,
        rule: str = "vote",
        noise_levels: str = "stratified",
        conditioning: str | Conditioning = "class_labels",
        stopping: StoppingRule | None = None,
        batch_size: int = 256,
        seed: int = 0,
        weighting: str = "uniform",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"num_classes: expected an integer of at least 2, got {num_classes!r}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: expected a positive integer, got {batch_size!r}")
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {list(RULES)}, got {rule!r}")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: expected one of {list(WEIGHTINGS)}, got {weighting!r}")
        if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature: expected a positive number, got {temperature!r}")
        if stopping is not None and not isinstance(stopping, StoppingRule):
            raise TypeError(f"stopping: expected None or a StoppingRule, got {type(stopping).__name__}")
        if stopping is not None and rule not in stopping.rules:
            kind = type(stopping).__name__
            raise ValueError(f"stopping: {kind} is valid for rules {list(stopping.rules)}, not {rule!r}")
        self.process = NoiseProcess(scheduler)
        self.draws = NoiseDraws.make(num_draws, noise_levels, seed=seed)
        self.conditioning = make_conditioning(conditioning, num_classes)
        self.scheduler, self.num_classes, self.num_draws = scheduler, num_classes, num_draws
        self.rule, self.weighting, self.temperature = rule, weighting, temperature
        self.stopping, self.batch_size, self.seed = stopping, batch_size, seed
        self._timesteps = self.process.timesteps(self.draws.levels)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Class probabilities [B, K] of images [B, C, *spatial]. Further arguments go to the network at every call."""
        if args:
            raise ValueError(f"args: expected keyword arguments for the network only, got {len(args)} positional ones")
        return self.classify(inputs, network, **kwargs).probabilities

    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> Classification:
        """Classify a batch of images.

        Args:
            images: images [B, C, *spatial], 2D or 3D, finite, scaled as the network was trained.
            network: the denoiser in eval mode, called as network(x=..., timesteps=..., class_labels=... or
                context=...).
            error_maps: also return the error of each pixel, at no further network evaluation.
            kwargs: further arguments for the network.

        Raises:
            ValueError: when the network is in training mode, the images or the predictions are not finite, or the
                shapes are wrong.
        """
        images = self._check(images, network)
        if self.stopping is None:
            errors, maps = self._evaluate(images, network, range(self.num_draws), error_maps, kwargs)
        else:
            if error_maps:
                raise ValueError(
                    "error_maps: expected False with a stopping rule; call error_maps(), it makes all draws"
                )
            errors, maps = self._evaluate_until_decided(images, network, self.stopping, kwargs), None
        result = classify_errors(errors, self.rule, weighting=self.weighting, temperature=self.temperature)
        return replace(result, error_maps=maps)

    def compute_errors(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> DenoisingErrors:
        """All errors of all draws and classes: the exact path, whatever the stopping rule. See :meth:`classify`."""
        return self._evaluate(self._check(images, network), network, range(self.num_draws), False, kwargs)[0]

    def error_maps(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> torch.Tensor:
        """Squared epsilon error of each pixel, mean over channels and draws [B, K, *spatial]. See :meth:`classify`.

        Where map k is below map j, class k explains the image better there.
        """
        maps = self._evaluate(self._check(images, network), network, range(self.num_draws), True, kwargs)[1]
        return maps  # type: ignore[return-value]

    def errors_from_values(self, values: torch.Tensor, num_elements: int) -> DenoisingErrors:
        """Stored values [n, K, N] of this inferer's draws, as `DenoisingErrors`.

        Args:
            values: squared errors of all draws, as `compute_errors` gives them.
            num_elements: elements of one image.
        """
        return self._make_errors(values, range(self.num_draws), num_elements)

    def _check(self, images: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        """Refuse what would give a wrong answer; return plain float32 images."""
        if isinstance(network, torch.nn.Module) and any(module.training for module in network.modules()):
            raise ValueError(
                "network: expected eval mode, got training mode, in which dropout falsifies the errors; "
                "call network.eval()"
            )
        if not isinstance(images, torch.Tensor):
            raise TypeError(f"images: expected a Tensor [B, C, *spatial], got {type(images).__name__}")
        if images.ndim not in (4, 5) or 0 in images.shape[1:]:
            raise ValueError(f"images: expected shape [B, C, H, W] or [B, C, H, W, D], got {list(images.shape)}")
        images = images.as_tensor() if isinstance(images, MetaTensor) else images
        if not images.is_floating_point():
            raise TypeError(f"images: expected floating point values scaled as in training, got {images.dtype}")
        images = images.detach().float()
        if not bool(torch.isfinite(images).all()):
            bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"images: expected finite values, got NaN or infinity in image(s) {bad[:10]} of the batch")
        return images

    def _make_errors(self, values: torch.Tensor, draws: range, num_elements: int) -> DenoisingErrors:
        timesteps = self._timesteps[draws.start : draws.stop]
        return DenoisingErrors(
            values,
            timesteps=timesteps.to(values.device),
            log_snr=self.process.log_snr(timesteps).float().to(values.device),
            log_snr_rate=self.process.log_snr_rate(timesteps).float().to(values.device),
            num_elements=num_elements,
        )

    @torch.no_grad()
    def _evaluate(
        self, images: torch.Tensor, network: Callable[..., Any], draws: range, with_maps: bool, kwargs: dict[str, Any]
    ) -> tuple[DenoisingErrors, torch.Tensor | None]:
        """Errors of all classes for some draws, in forward calls of at most ``batch_size`` evaluations.

        Evaluations are numbered image by image, draw by draw, class by class; a chunk is a run of that numbering, so
        that an image is noised once for all its classes.
        """
        shape, device, classes = tuple(images.shape[1:]), images.device, self.num_classes
        num_elements = math.prod(shape)
        keys = image_keys(images)
        pairs, total = len(images) * len(draws), len(images) * len(draws) * classes
        values = torch.full((pairs * classes,), torch.nan, device=device)
        maps = torch.zeros(len(images) * classes, *shape[1:], device=device) if with_maps else None
        for start in range(0, total, self.batch_size):
            index = torch.arange(start, min(start + self.batch_size, total))
            pair, label = index // classes, index % classes
            first, last = int(pair[0]), int(pair[-1])
            image = torch.arange(first, last + 1) // len(draws)
            draw = draws.start + torch.arange(first, last + 1) % len(draws)
            noise = torch.stack(
                [self.draws.noise(keys[b], n, shape) for b, n in zip(image.tolist(), draw.tolist(), strict=True)]
            ).to(device)
            squared = self._squared_errors(
                images[image.to(device)],
                noise,
                self._timesteps[draw],
                (pair - first).to(device),
                label.to(device),
                network,
                kwargs,
            )
            sums = squared.flatten(1).sum(1, dtype=torch.float64)
            values[start : start + len(index)] = sums.div(num_elements).float()
            if maps is not None:
                owner = (image[pair - first] * classes + label).to(device)
                maps.index_add_(0, owner, squared.mean(1))
        values = values.view(len(images), len(draws), classes).transpose(1, 2).contiguous()
        # An error that is not finite would pass for a draw that was not made.
        if not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).flatten(1).any(1).sum())
            raise ValueError(
                f"network: expected finite predictions, got NaN or infinity for {bad} of {len(images)} images"
            )
        errors = self._make_errors(values, draws, num_elements)
        return errors, None if maps is None else maps.view(len(images), classes, *shape[1:]) / len(draws)

    def _squared_errors(
        self,
        images: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        pair: torch.Tensor,
        labels: torch.Tensor,
        network: Callable[..., Any],
        kwargs: dict[str, Any],
    ) -> torch.Tensor:
        """Squared epsilon errors [n, C, *spatial] of n evaluations; evaluation i belongs to the pair ``pair[i]``."""
        timesteps = timesteps.to(images.device)
        noisy = self.process.add_noise(images, noise, timesteps)[pair]
        prediction = network(x=noisy, timesteps=timesteps[pair], **self.conditioning(labels), **kwargs)
        if prediction.shape != noisy.shape:
            raise ValueError(
                f"network: expected a prediction of the input's shape {list(noisy.shape)}, got "
                f"{list(prediction.shape)}; networks that also predict a variance are not supported"
            )
        target = self.process.target(images, noise, timesteps)[pair]
        factor = self.process.epsilon_factor(timesteps).to(device=images.device, dtype=torch.float32)[pair]
        squared: torch.Tensor = (prediction.float() - target).square() * factor.reshape(-1, *[1] * (images.ndim - 1))
        return squared

    def _evaluate_until_decided(
        self, images: torch.Tensor, network: Callable[..., Any], stopping: StoppingRule, kwargs: dict[str, Any]
    ) -> DenoisingErrors:
        """Make draws in blocks, each time for the images that the rule has not yet decided."""
        values = torch.full((len(images), self.num_classes, self.num_draws), torch.nan, device=images.device)
        open_images = torch.arange(len(images), device=images.device)
        num_elements = math.prod(images.shape[1:])
        for start in range(0, self.num_draws, stopping.block):
            draws = range(start, min(start + stopping.block, self.num_draws))
            block, _ = self._evaluate(images[open_images], network, draws, False, kwargs)
            values[open_images, :, draws.start : draws.stop] = block.values
            so_far = self._make_errors(values, range(self.num_draws), num_elements).first(draws.stop)
            open_images = open_images[~stopping.decided(so_far[open_images], self.num_draws)]
            if len(open_images) == 0:
                break
        return self._make_errors(values, range(self.num_draws), num_elements)
