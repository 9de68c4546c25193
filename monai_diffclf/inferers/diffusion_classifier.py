# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A MONAI inferer that classifies with a class-conditional diffusion model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from monai.networks.schedulers import Scheduler

from .._checks import check_integer
from ..classification import (
    DenoisingClassification,
    DenoisingErrors,
    LevelSampling,
    NoiseDraws,
    StoppingRule,
    replay,
)
from ..classification.draw_weights import Weighting, check_levels_count, check_weighting, draw_weights
from ..classification.draws import check_seed
from ..classification.replay import classify_draws, run_draws
from ..classification.rules import check_rule, check_temperature, mean_errors
from ..classification.stopping import check_valid
from ..networks.conditioning import Conditioning, make_conditioning
from ..networks.latent_space import GivenLatents, LatentSpace, check_latent_space, maps_in_pixels
from ..networks.map_smoothing import smooth_error_maps
from ..networks.schedulers.noise_process import NoiseProcess
from .classifier import ClassifierInferer
from .draw_evaluator import DrawEvaluator
from .grouped_draws import GroupedDrawEvaluator, check_conditions_per_class
from .near_ties import redo_near_ties

__all__ = ["DiffusionClassifierInferer"]


class DiffusionClassifierInferer(ClassifierInferer):
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
            RFlow; an :class:`monai_diffclf.networks.schedulers.SDEProcess` for a network called with an SDE's time.
        num_classes: number of classes K.
        num_draws: noise draws an image, N.
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``, see :func:`monai_diffclf.classification.classify_errors`.
        noise_levels: ``"stratified"``, ``"uniform"`` or a ``LevelSampling``, see
            :class:`monai_diffclf.classification.NoiseDraws`; or the log-SNR of the draws themselves, such as ``[5.3]``,
            taken in turn where there are more draws. All of these count alike: it is another classifier than that of
            the whole schedule, see :func:`monai_diffclf.classification.fit_few_draws`.
        conditioning: how a class reaches the network: ``"class_labels"``, ``"crossattn"`` or a callable from labels [B]
            to keyword arguments, see :mod:`monai_diffclf.networks.conditioning`.
        stopping: None for all draws, or a stopping rule: :class:`monai_diffclf.classification.CurtailedVote`,
            ``PredictiveCurtailment``, ``SequentialTest`` or ``StagedElimination``. Every image stops for itself; the
            evaluations of all that go on are packed into full forward calls.
        batch_size: network evaluations in one forward call: bounds memory, never changes a result. None for what was
            measured to be fast: 128 on a CPU, 256 elsewhere.
        seed: seed of the noise levels and of the noise.
        weighting: weighting of the draws: ``"uniform"``, ``"elbo"``, ``"min_snr"``, ``LevelWeights`` or a tensor [N],
            see :func:`monai_diffclf.classification.draw_weights`.
        temperature: temperature of the probabilities from the mean error.
        amp_dtype: ``torch.float16`` or ``torch.bfloat16`` runs the network in automatic mixed precision; errors and
            sums stay in float32 and float64, and whatever rounding could turn is made again in float32.
        map_weighting: weighting of the draws in error maps, whatever decides; None for that of the decision. The
            default counts levels of little noise less, at which all of an image is slightly easier under one class or
            the other: it finds the lesions of phantoms best.
        map_smoothing: standard deviation of the smoothing of error maps in image pixels, 0 for none; None for
            :func:`monai_diffclf.networks.default_smoothing`, a sixteenth of the shortest side.
        latent_space: the space the network works in, see :class:`monai_diffclf.networks.LatentSpace`; None for pixels.
            Each image is encoded once; noise and errors are those of its latents, the noise is keyed by its pixels.
        conditions_per_class: how many conditions each class has [K], such as prompts: ``conditioning`` then takes
            labels of conditions, class by class, 0 to their sum - 1. The error of a class is the mean over its
            conditions, which all see the same noise. None for one each.

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
        scheduler: Scheduler | NoiseProcess,
        num_classes: int = 2,
        *,
        num_draws: int = 51,
        rule: str = "vote",
        noise_levels: str | LevelSampling | Sequence[float] = "stratified",
        conditioning: str | Conditioning = "class_labels",
        stopping: StoppingRule | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        weighting: Weighting = "uniform",
        temperature: float = 1.0,
        amp_dtype: torch.dtype | None = None,
        latent_space: LatentSpace | None = None,
        map_weighting: Weighting | None = "min_snr",
        map_smoothing: float | None = None,
        conditions_per_class: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        num_classes, num_draws = check_integer(num_classes, "num_classes", 2), check_integer(num_draws, "num_draws")
        batch_size, seed = None if batch_size is None else check_integer(batch_size, "batch_size"), check_seed(seed)
        check_rule(rule)
        if amp_dtype not in (None, torch.float16, torch.bfloat16):
            raise ValueError(f"amp_dtype: expected None, torch.float16 or torch.bfloat16, got {amp_dtype!r}")
        check_temperature(temperature)
        if stopping is not None and not isinstance(stopping, StoppingRule):
            raise TypeError(f"stopping: expected None or a StoppingRule, got {type(stopping).__name__}")
        self.process, self.latent_space = NoiseProcess.of(scheduler), check_latent_space(latent_space)
        self.draws = _noise_draws(self.process, num_draws, noise_levels, seed)
        if stopping is not None:
            check_valid(stopping, rule)
            stopping.looks(num_draws)  # refuses a rule that asks for more draws than there are
        check_weighting(weighting, num_draws)
        if map_weighting is not None:
            check_weighting(map_weighting, num_draws, name="map_weighting")
        if map_smoothing is not None and not (map_smoothing >= 0 and math.isfinite(map_smoothing)):
            raise ValueError(f"map_smoothing: expected None or a number of pixels of at least 0, got {map_smoothing!r}")
        self.conditions_per_class = check_conditions_per_class(conditions_per_class, num_classes)
        self.conditioning = make_conditioning(conditioning, num_classes)
        self.scheduler, self.num_classes, self.num_draws = scheduler, num_classes, num_draws
        self.rule, self.weighting, self.temperature = rule, weighting, temperature
        self.stopping, self.batch_size, self.seed, self.amp_dtype = stopping, batch_size, seed, amp_dtype
        self.map_weighting = weighting if map_weighting is None else map_weighting
        self.map_smoothing = map_smoothing
        self._timesteps = self.process.timesteps(self.draws.levels)
        check_levels_count(weighting, self.process.log_snr(self._timesteps))

    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> DenoisingClassification:
        """Classify a batch of images.

        Args:
            images: images [B, C, *spatial], 2D or 3D, finite, scaled as the network was trained.
            network: the denoiser in eval mode, called as network(x=..., timesteps=..., class_labels=... or
                context=...).
            error_maps: also return the error of each pixel, see :meth:`error_maps`, at no further network evaluation.
            kwargs: further arguments for the network: tensors with one row an image, and what all calls share.

        Raises:
            ValueError: when the network is in training mode or ignores the class, the images or the predictions are not
                finite, or the shapes are wrong.
        """
        source = self._source(images, network, kwargs)
        if self.stopping is None:
            errors, maps = self._all_draws(source, error_maps)
            result = self._from_errors(errors)
        elif error_maps:
            raise ValueError("error_maps: expected False with a stopping rule; call error_maps(), it makes all draws")
        else:
            result, maps = self._until_decided(source, self.stopping), None
        self.check_told_apart(source.denoiser, source.images, result.errors.values)
        if source.denoiser.amp_dtype is not None:
            errors, redone = redo_near_ties(
                result.errors,
                source,
                rule=self.rule,
                weighting=self.weighting,
                stopping=self.stopping,
            )
            spent = result.network_evaluations + redone
            result = replace(
                self._from_errors(errors), decided=result.decided, guarantee=result.guarantee, network_evaluations=spent
            )
            maps = None if maps is None else _scale_to_mean(maps, mean_errors(errors, self.map_weighting))
        return replace(result, error_maps=None if maps is None else self._in_pixels(maps, images))

    def compute_errors(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> DenoisingErrors:
        """All errors of all draws and classes: the exact path, whatever the stopping rule. See :meth:`classify`."""
        source = self._source(images, network, kwargs)
        errors = self._all_draws(source, False)[0]
        self.check_told_apart(source.denoiser, source.images, errors.values)
        return errors

    def error_maps(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> torch.Tensor:
        """Squared epsilon error of each pixel, mean over channels and draws [B, K, *spatial]. See :meth:`classify`.

        m[b, k, u] = mean_n(w_n mean_c (epsilon_n - epsilon_hat_n(z_n, k))^2 at u), with the weights w_n that
        ``map_weighting`` gives the draws, smoothed by ``map_smoothing``. The maps are additive: their mean over pixels
        is the mean of the errors under these weights, up to float32 rounding; with ``map_weighting=None`` it is
        ``mean_error`` of the result. Where map k is below map j, class k explains the image better there. All draws are
        made, whatever the stopping rule.

        In a latent space the error of each latent pixel is shared out over the image pixels it covers, and that of a
        global token over all of them, so that the sum of a map is kept: it is then the number of latent pixels or
        tokens times the mean error.
        """
        source = self._source(images, network, kwargs)
        errors, maps = self._all_draws(source, True)
        self.check_told_apart(source.denoiser, source.images, errors.values)
        return self._in_pixels(cast(torch.Tensor, maps), images)

    def errors_from_values(self, values: torch.Tensor, num_elements: int) -> DenoisingErrors:
        """Stored values [n, K, N] of this inferer's draws, as `DenoisingErrors`.

        Args:
            values: squared errors, as `compute_errors` gives them; NaN where not evaluated.
            num_elements: elements of one image.
        """
        importance = self.draws.importance
        return DenoisingErrors(
            values,
            timesteps=self._timesteps.to(values.device),
            log_snr=self.process.log_snr(self._timesteps).float().to(values.device),
            log_snr_rate=self.process.log_snr_rate(self._timesteps).float().to(values.device),
            num_elements=num_elements,
            importance=None if importance is None else importance.to(values.device),
        )

    def classify_stored(self, values: torch.Tensor, num_elements: int) -> DenoisingClassification:
        """Classify from stored values [n, K, N] of this inferer's draws, without a network.

        With a stopping rule it is replayed, so that the result is that of :meth:`classify` (but in reduced precision,
        where near ties were redone).

        Args:
            values: squared errors of all draws, or those that the stopping rule had made.
            num_elements: elements of one image.
        """
        errors = self.errors_from_values(values, num_elements)
        if self.stopping is None:
            return self._from_errors(errors)
        result = replay(errors, self.stopping, rule=self.rule, weighting=self.weighting, temperature=self.temperature)
        return self._counted(result)

    def precision(self, device: torch.device | str) -> torch.dtype | None:
        """``amp_dtype``; without it, that of the autocast it is called in, so that near ties are made again there too.

        Example:
            >>> from monai.networks.schedulers import DDPMScheduler
            >>> inferer = DiffusionClassifierInferer(DDPMScheduler(100))
            >>> with torch.autocast("cpu", torch.bfloat16):
            ...     inferer.precision("cpu")
            torch.bfloat16
        """
        kind = torch.device(device).type
        return self.amp_dtype or (torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)

    @property
    def num_conditions(self) -> int:
        """Rows of the conditioning: those of all classes."""
        return sum(self.conditions_per_class or (1,) * self.num_classes)

    @property
    def num_estimates(self) -> int:
        """Errors of each image and class, N."""
        return self.num_draws

    def decide(self, values: torch.Tensor, num_elements: int) -> DenoisingClassification:
        """Classify from values [n, K, N] as they are, NaN where not evaluated, without replaying a stopping rule."""
        return self._from_errors(self.errors_from_values(values, num_elements))

    def _from_errors(self, errors: DenoisingErrors) -> DenoisingClassification:
        result = classify_draws(
            errors, self.stopping, rule=self.rule, weighting=self.weighting, temperature=self.temperature
        )
        return self._counted(result)

    def _counted(self, result: DenoisingClassification) -> DenoisingClassification:
        """A result with the evaluations that classes of several conditions take."""
        if self.conditions_per_class is None:
            return result
        evaluated = result.errors.num_evaluated
        sizes = torch.tensor(self.conditions_per_class, device=evaluated.device)
        return replace(result, network_evaluations=(evaluated * sizes).sum(1))

    def _source(self, images: torch.Tensor, network: Callable[..., Any], kwargs: dict[str, Any]) -> DrawEvaluator:
        """The images, encoded once, the network and the draws."""
        latents = self.encode(images, network).float()
        return self._source_of(latents, self.keys(images, latents), network, kwargs)

    def _source_of(
        self, latents: torch.Tensor, keys: Sequence[bytes], network: Callable[..., Any], kwargs: dict[str, Any]
    ) -> DrawEvaluator:
        """The same of what is encoded already, with the keys of the images."""
        denoiser = self.denoiser(latents, network, kwargs)
        if self.conditions_per_class is None:
            return DrawEvaluator(denoiser, latents, self.draws, keys)
        return GroupedDrawEvaluator(denoiser, latents, self.draws, keys, self.conditions_per_class)

    def _in_pixels(self, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Maps over latent pixels or tokens [B, K, ...] as smooth maps over image pixels [B, K, *spatial], float32."""
        spread = maps_in_pixels(self.latent_space, maps, images.shape[2:])
        if isinstance(self.latent_space, GivenLatents):  # whose neighbours need not be neighbours in the image
            return spread.float()
        return smooth_error_maps(spread, self.map_smoothing, stride=self.latent_space.stride).float()

    def _all_draws(self, source: DrawEvaluator, with_maps: bool) -> tuple[DenoisingErrors, torch.Tensor | None]:
        """Errors of all draws and classes, and if asked for their weighted mean in each pixel, float64."""
        images = source.images
        shape = (len(images), self.num_classes, *images.shape[2:])
        maps, weights = None, None
        if with_maps:
            # Classes differ by a thousandth of their errors: sums in float32 would lose digits of the difference.
            maps = torch.zeros(shape, dtype=torch.float64, device=images.device)
            blank = images.new_zeros(0, self.num_classes, self.num_draws)
            weights = draw_weights(self.errors_from_values(blank, source.num_elements), self.map_weighting)
        everything = torch.ones(shape[:2], dtype=torch.bool)
        draws = torch.arange(self.num_draws)
        values = source.grid(torch.arange(len(images)), draws, everything, maps=maps, map_weights=weights)
        errors = self.errors_from_values(values, source.num_elements)
        return errors, None if maps is None else maps / self.num_draws

    def _until_decided(self, source: DrawEvaluator, stopping: StoppingRule) -> DenoisingClassification:
        """Make draws, each time for the images and classes that the rule has not yet decided."""
        shape = (len(source.images), self.num_classes, self.num_draws)
        blank = self.errors_from_values(
            torch.full(shape, torch.nan, dtype=torch.float32, device=source.images.device), source.num_elements
        )
        errors, decided = run_draws(blank, source.grid, stopping, rule=self.rule, weighting=self.weighting)
        return replace(self._from_errors(errors), decided=decided, guarantee=stopping.guarantee)


def _noise_draws(
    process: NoiseProcess, num_draws: int, noise_levels: str | LevelSampling | Sequence[float], seed: int
) -> NoiseDraws:
    """The draws, at levels of the schedule or at the log-SNR that are named."""
    if isinstance(noise_levels, str | LevelSampling):
        return NoiseDraws.make(num_draws, noise_levels, seed=seed)
    made = NoiseDraws.make(num_draws, seed=seed)  # checks both
    try:
        log_snr = torch.tensor([float(value) for value in noise_levels], dtype=torch.float64)
    except (TypeError, ValueError):
        log_snr = torch.empty(0)
    if len(log_snr) == 0 or len(log_snr) > num_draws:
        raise ValueError(
            "noise_levels: expected 'stratified', 'uniform', a LevelSampling or the log-SNR of the draws, one to "
            f"{num_draws} numbers such as [5.3], got {noise_levels!r}"
        )
    try:
        levels = process.levels(log_snr)
    except ValueError as error:
        raise ValueError(f"noise_levels: {error}") from None
    return replace(made, levels=levels[torch.arange(num_draws) % len(levels)])


def _scale_to_mean(maps: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Maps [B, K, *spatial] whose means over pixels are those of the errors that were made again in float32 [B, K]."""
    now = maps.flatten(2).mean(2)
    scale = torch.where(now > 0, mean / now.where(now > 0, 1.0), 1.0)
    return maps * scale.reshape(*scale.shape, *[1] * (maps.ndim - 2))
