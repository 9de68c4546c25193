# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A MONAI inferer that classifies by class-conditional likelihood under a score model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from .._checks import check_images, check_integer
from ..classification import (
    LikelihoodClassification,
    StoppingRule,
    UniformDequantization,
    VariationalBound,
    bits_per_dimension,
    classify_likelihood,
    marginal_log_likelihood,
    variational_bound,
)
from ..classification.draws import check_seed
from ..classification.likelihood import Prior, check_prior
from ..classification.rules import check_temperature
from ..networks.conditioning import Conditioning, make_conditioning
from ..networks.latent_space import GivenLatents, LatentSpace, PixelSpace, check_latent_space, encode, maps_in_pixels
from ..networks.map_smoothing import smooth_error_maps
from ..networks.schedulers import SDE, SDEProcess
from .classifier import ClassifierInferer
from .diffusion_classifier import DiffusionClassifierInferer
from .flow_likelihood import PROBES, TERMINALS, FlowLikelihood
from .ode_solvers import ORDER, SOLVERS

__all__ = ["ScoreClassifierInferer"]

LARGEST_EXACT = 4096
"""Elements of an image up to which the exact divergence, one network evaluation for each, is allowed."""


class ScoreClassifierInferer(ClassifierInferer):
    """Classify images by log p(x | k) + log prior(k), the likelihood of a class-conditional score model.

    The likelihood is that of the probability-flow ODE (Song et al. 2021; Sarker et al. 2025), with the class bound into
    both the drift and its divergence; all classes share the solver's steps and the probes of the divergence. See
    :class:`monai_diffclf.inferers.flow_likelihood.FlowLikelihood` for the equations.

    The result of an image depends on its pixels, the network, the seed and these settings only, as that of
    `DiffusionClassifierInferer` does.

    Args:
        sde: the forward process of the network's training.
        num_classes: number of classes K.
        prediction_type: what the network predicts: ``"score"``, ``"epsilon"`` (score = -epsilon / sigma), ``"sample"``
            or ``"v_prediction"``.
        num_probes: probes of the divergence (Hutchinson 1990), P.
        exact_divergence: sum over all dimensions instead; for images of up to 4096 elements.
        solver: ``"heun"`` or ``"rk4"`` with ``num_steps`` equal steps in the log-SNR (2 or 4 network evaluations each);
            ``"multistep"``, one evaluation a step, the most accurate for few of them; or ``"dopri5"``, adaptive, every
            image by itself.
        num_steps: steps of all but ``"dopri5"``.
        prior: shares of the classes [K]; None for equal ones. See
            :func:`monai_diffclf.classification.empirical_prior`.
        seed: seed of probes, dequantisation and noise draws.
        probe: ``"rademacher"`` or ``"gaussian"``.
        tolerance: absolute and relative tolerance of ``"dopri5"``.
        temperature: divides the log-likelihoods in the posterior.
        dequantization: adds uniform noise to discrete intensities, and makes likelihoods those of discrete images; None
            to take images as given.
        terminal: density at t = 1, ``"corrected"`` for what is left of the class by the network, or ``"prior"`` for the
            SDE's prior as published; see `FlowLikelihood`.
        conditioning: how a class reaches the network, see :mod:`monai_diffclf.networks.conditioning`.
        batch_size: network evaluations in one call: bounds memory, never changes a result; None as in
            `DiffusionClassifierInferer`.
        map_draws: noise draws a class of the error maps.
        latent_space: the space the network works in, None for pixels; the likelihood is then that of the latents, and
            says nothing of bits a dimension.

    Raises:
        TypeError: when ``sde``, ``dequantization`` or the conditioning is of the wrong kind.
        ValueError: when another argument is out of range.

    Example:
        >>> from monai_diffclf.networks.schedulers import VPSDE
        >>> class Score(torch.nn.Module):  # of the classes N(0, 1) and N(2, 1), a pixel
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         alpha = VPSDE().alpha_sigma(timesteps)[0].view(-1, 1, 1, 1)
        ...         return 2.0 * class_labels.view(-1, 1, 1, 1) * alpha - x
        >>> inferer = ScoreClassifierInferer(VPSDE(), num_classes=2)
        >>> log_likelihood = inferer.log_likelihood(torch.zeros(1, 1, 1, 1), Score().eval())
        >>> [round(value, 2) for value in log_likelihood[0].tolist()]  # -log(2 pi) / 2, and 2 less
        [-0.92, -2.92]
    """

    process: SDEProcess

    def __init__(
        self,
        sde: SDE,
        num_classes: int = 2,
        *,
        prediction_type: str = "score",
        num_probes: int = 1,
        exact_divergence: bool = False,
        solver: str = "heun",
        num_steps: int = 64,
        prior: Prior | None = None,
        seed: int = 0,
        probe: str = "rademacher",
        tolerance: float = 1e-5,
        temperature: float = 1.0,
        dequantization: UniformDequantization | None = None,
        terminal: str = "corrected",
        conditioning: str | Conditioning = "class_labels",
        batch_size: int | None = None,
        map_draws: int = 51,
        latent_space: LatentSpace | None = None,
    ) -> None:
        super().__init__()
        num_classes, num_probes = check_integer(num_classes, "num_classes", 2), check_integer(num_probes, "num_probes")
        num_steps, map_draws = check_integer(num_steps, "num_steps"), check_integer(map_draws, "map_draws")
        batch_size, seed = None if batch_size is None else check_integer(batch_size, "batch_size"), check_seed(seed)
        check_temperature(temperature)
        named = (("solver", solver, SOLVERS), ("probe", probe, PROBES), ("terminal", terminal, TERMINALS))
        for name, value, known in named:
            if value not in known:
                raise ValueError(f"{name}: expected one of {list(known)}, got {value!r}")
        if not (isinstance(tolerance, (int, float)) and math.isfinite(tolerance) and tolerance > 0):
            raise ValueError(f"tolerance: expected a positive number, got {tolerance!r}")
        if solver == "multistep" and num_steps < ORDER:
            raise ValueError(f"num_steps: expected at least {ORDER} for the multistep solver, got {num_steps}")
        if dequantization is not None and not isinstance(dequantization, UniformDequantization):
            kind = type(dequantization).__name__
            raise TypeError(f"dequantization: expected None or a UniformDequantization, got {kind}")
        self.process, self.latent_space = SDEProcess(sde, prediction_type), check_latent_space(latent_space)
        if dequantization is not None and not isinstance(self.latent_space, PixelSpace):
            raise ValueError(
                "dequantization: expected None with a latent_space, whose likelihood is that of latents and no "
                "probability of discrete pixels"
            )
        self.sde, self.prediction_type, self.num_classes = sde, prediction_type, num_classes
        self.conditioning = make_conditioning(conditioning, num_classes)
        self.prior = check_prior(prior, num_classes)
        self.num_probes, self.probe, self.exact_divergence = num_probes, probe, exact_divergence
        self.solver, self.num_steps, self.tolerance = solver, num_steps, float(tolerance)
        self.temperature, self.dequantization, self.terminal = temperature, dequantization, terminal
        self.batch_size, self.seed, self.map_draws = batch_size, seed, map_draws

    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> LikelihoodClassification:
        """Classify a batch of images; see :func:`monai_diffclf.classification.classify_likelihood` for the fields.

        Args:
            images: images [B, C, *spatial], 2D or 3D, finite, scaled as the network was trained.
            network: the score network in eval mode, called as network(x=..., timesteps=..., class_labels=... or
                context=...) with the SDE's time, float in (0, 1].
            error_maps: also return the error of each pixel and class, from ``map_draws`` noise draws, weighted and
                smoothed as a `DiffusionClassifierInferer` does; the class with the smaller one explains the pixel
                better. What each pixel adds to the likelihood, as it is, is :meth:`log_likelihood_maps`.
            kwargs: further arguments for the network.

        Raises:
            ValueError: when the network is in training mode, ignores the class or cannot be differentiated, the images
                or the likelihoods are not finite, the shapes are wrong, or the tolerance cannot be met.
        """
        latents = self.encode(images, network)
        keys = self.keys(images, latents)
        values, evaluations = self._solve(latents, keys, network, kwargs)
        self.check_told_apart(self.denoiser(latents, network, kwargs), latents, values)
        maps = None
        if error_maps:
            maps = self._maps(latents, keys, network, self._on_latents(self.map_draws), images, kwargs)
            maps = smooth_error_maps(maps, stride=self.latent_space.stride)
            evaluations = evaluations + self.map_draws * self.num_classes
        result = self.decide(values, math.prod(latents.shape[1:]))
        return replace(result, network_evaluations=evaluations, error_maps=maps)

    @property
    def num_estimates(self) -> int:
        """Estimates of each log-likelihood, P: one a probe, a single one if the divergence is exact."""
        return 1 if self.exact_divergence else self.num_probes

    def decide(self, values: torch.Tensor, num_elements: int) -> LikelihoodClassification:
        """Classify from stored log-likelihoods of each probe [n, K, P], without a network."""
        return classify_likelihood(values, num_elements=num_elements, prior=self.prior, temperature=self.temperature)

    def log_likelihood(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> torch.Tensor:
        """log p(x | k) in nats [B, K], float64; with ``dequantization`` log P of the discrete image. See `classify`."""
        latents = self.encode(images, network)
        return self._solve(latents, self.keys(images, latents), network, kwargs)[0].mean(2)

    def bits_per_dimension(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> torch.Tensor:
        """-log2 P(x) / D of discrete images [B], float64, with P(x) the sum over the classes of prior(k) P(x | k).

        Raises:
            ValueError: when the inferer has no ``dequantization``: a density has no bits.
        """
        if self.dequantization is None:
            raise ValueError("dequantization: expected a UniformDequantization for bits per dimension, got None")
        marginal = marginal_log_likelihood(self.log_likelihood(images, network, **kwargs), self.prior)
        return bits_per_dimension(marginal, math.prod(images.shape[1:]))

    def denoising_classifier(
        self,
        *,
        num_draws: int = 51,
        rule: str = "mean",
        stopping: StoppingRule | None = None,
        time_sampling: str = "log_snr",
        temperature: float = 1.0,
    ) -> DiffusionClassifierInferer:
        """The classifier by denoising error on the same network: evaluations without derivatives, and stopping rules.

        It takes images as given and all classes as equally frequent: dequantisation and prior are not handed on.

        Args:
            num_draws: noise draws an image.
            rule: ``"mean"``: with the times drawn evenly in the log-SNR its errors are those of the variational bound;
                or ``"vote"``.
            stopping: a stopping rule, None for all draws.
            time_sampling: ``"log_snr"`` or ``"uniform"``, see `SDEProcess`.
            temperature: temperature of its probabilities.
        """
        return DiffusionClassifierInferer(
            SDEProcess(self.sde, self.prediction_type, time_sampling=time_sampling),
            self.num_classes,
            num_draws=num_draws,
            rule=rule,
            stopping=stopping,
            conditioning=self.conditioning,
            batch_size=self.batch_size,
            seed=self.seed,
            weighting="elbo" if rule == "mean" and time_sampling == "log_snr" else "uniform",
            temperature=temperature,
            latent_space=self.latent_space,
        )

    def variational_bound(
        self, images: torch.Tensor, network: Callable[..., Any], *, num_draws: int = 51, **kwargs: Any
    ) -> VariationalBound:
        """A lower bound on `log_likelihood` with its standard error, from ``num_draws`` draws a class.

        log p(x | k) >= E log N(x; z / alpha, sigma^2 / alpha^2) at t_min - KL(q(z | x) || prior) at t = 1
        - 1/2 integral E |epsilon - epsilon_hat|^2 d lambda (Kingma et al. 2021, equation 12), z of the last step being
        decoded by a Gaussian. It belongs to the stochastic process, the likelihood to the ODE: with the exact score
        both are log p(x | k).
        """
        latents = self.encode(images, network)
        classifier = self._on_latents(num_draws)
        source = classifier._source_of(latents.float(), self.keys(images, latents), network, kwargs)
        errors = classifier._all_draws(source, False)[0]
        return variational_bound(errors, self._bound_constant(latents.double()))

    def log_likelihood_maps(
        self, images: torch.Tensor, network: Callable[..., Any], *, num_draws: int = 51, **kwargs: Any
    ) -> torch.Tensor:
        """What each pixel adds to the bound on log p(x | k), in nats [B, K, *spatial]; larger where k explains more.

        -1/2 integral sum_c E (epsilon - epsilon_hat)^2 d lambda in each pixel. The difference of two classes' maps is
        the log-likelihood ratio of each pixel; it adds up to the difference of their `variational_bound`.
        """
        latents = self.encode(images, network)
        classifier = self._on_latents(num_draws, of_decision=True)
        maps = self._maps(latents, self.keys(images, latents), network, classifier, images, kwargs)
        return -0.5 * latents.shape[1] * maps

    def encode(self, images: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        """Checked images, with dequantisation noise if asked for, or their latents; in the images' own type."""
        checked = check_images(images, network, tokens=isinstance(self.latent_space, GivenLatents))
        if self.dequantization is not None:
            return self.dequantization(checked, seed=self.seed).to(checked.dtype)
        return encode(self.latent_space, checked)

    def _on_latents(self, num_draws: int, *, of_decision: bool = False) -> DiffusionClassifierInferer:
        """The classifier by denoising error for what is encoded already; its maps not smoothed, as they are spread."""
        classifier = self.denoising_classifier(num_draws=num_draws)
        classifier._accepted = self._accepted
        if of_decision:
            classifier.map_weighting = classifier.weighting
        return classifier

    def _maps(
        self,
        latents: torch.Tensor,
        keys: Sequence[bytes],
        network: Callable[..., Any],
        classifier: DiffusionClassifierInferer,
        images: torch.Tensor,
        kwargs: dict[str, Any],
    ) -> torch.Tensor:
        """Error maps of a classifier on latents, in image pixels [B, K, *spatial], as they are spread."""
        source = classifier._source_of(latents.float(), keys, network, kwargs)
        errors, maps = classifier._all_draws(source, True)
        classifier.check_told_apart(source.denoiser, source.images, errors.values)
        return maps_in_pixels(self.latent_space, cast(torch.Tensor, maps), images.shape[2:]).float()

    def _solve(
        self, latents: torch.Tensor, keys: Sequence[bytes], network: Callable[..., Any], kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(x | k) of each probe [B, K, P] and network evaluations [B]."""
        elements = math.prod(latents.shape[1:])
        if self.exact_divergence and elements > LARGEST_EXACT:
            raise ValueError(
                f"exact_divergence: expected images of at most {LARGEST_EXACT} elements, got {elements}; use num_probes"
            )
        flow = FlowLikelihood(
            denoiser=self.denoiser(latents, network, kwargs),
            images=latents,
            keys=keys,
            sde=self.sde,
            num_probes=self.num_probes,
            probe=self.probe,
            exact_divergence=self.exact_divergence,
            terminal=self.terminal,
            seed=self.seed,
        )
        values, evaluations = flow.solve(self.solver, self.num_steps, self.tolerance)
        volume = 0.0 if self.dequantization is None else self.dequantization.log_volume(elements)
        return values + volume, evaluations

    def _bound_constant(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruction and prior terms of the bound, and the volume of dequantisation [B, 1], float64."""
        elements = math.prod(images.shape[1:])
        log_noise = -0.5 * self.sde.log_snr_range[1]  # log(sigma / alpha) at t_min
        reconstruction = -0.5 * elements * (1 + math.log(2 * math.pi) + 2 * log_noise)
        # KL(N(alpha x, sigma^2) || N(0, prior_std^2)), summed over the elements.
        alpha, sigma = (float(factor) / self.sde.prior_std for factor in self.sde.alpha_sigma(1.0))
        divergence = 0.5 * ((alpha * images).square() + sigma**2 - 1 - 2 * math.log(sigma)).flatten(1).sum(1)
        volume = 0.0 if self.dequantization is None else self.dequantization.log_volume(elements)
        return (reconstruction + volume - divergence)[:, None]
