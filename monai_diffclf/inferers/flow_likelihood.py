# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""log p(x | k) by the probability-flow ODE: images, classes and probes packed into bounded network calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..classification.philox import ImageRandom
from ..networks.denoiser import Denoiser
from ..networks.schedulers import SDE, alpha_sigma
from .ode_solvers import TABLEAUS, denser_grid, even_grid, solve_adaptive, solve_fixed, solve_multistep

__all__ = ["PROBES", "TERMINALS", "FlowLikelihood"]

PROBES = ("rademacher", "gaussian")
TERMINALS = ("corrected", "prior")


@dataclass
class FlowLikelihood:
    """A network, some images and what the ODE needs to know.

    Time is the log-SNR lambda, and the state u = x / sqrt(alpha^2 + sigma^2): on it all SDEs are the same variance
    preserving process with alpha_u^2 = sigmoid(lambda). The probability flow (Song et al. 2021, equation 13) is then

        du / d lambda = sigma_u (sigma_u u - epsilon_hat(x, t, k)) / 2,

    which vanishes at both ends, so that steps of equal size in lambda suffice. Along it

        log p(u(0)) = log p(u(1)) + integral of div(du / d lambda) d lambda,

    with the divergence by Hutchinson's estimate, the mean of v^T (d f / du) v over random v (Grathwohl et al. 2019), f
    being the right hand side above. Classes and probes are differentiated in one call. Sums and state are float64.

    **The end.** At t = 1 a trace of the image is left, alpha(1) = 0.0066 for `VPSDE`, of which the SDE's own prior
    (``"prior"``, as published) takes no notice. Where class means are 1.2 from 0 this costs 3e-3 nats a dimension, and
    up to 2e-2 for the wrong class.
    ``"corrected"`` takes the network's word for what is left of the class: log p(u(1)) = log N(u; alpha_u x_hat,
    sigma_u^2), and as u - alpha_u x_hat = sigma_u epsilon_hat that is log N(epsilon_hat; 0, 1) - D log sigma_u. For any
    density of images it is right to first order in alpha_u, at the cost of one more evaluation.

    Args:
        denoiser: the network in eval mode, under its SDE.
        images: images [B, C, *spatial], or their latents, floating point.
        keys: key of each image [B], which its probes depend on.
        sde: the SDE.
        num_probes: probes P of the divergence.
        probe: ``"rademacher"`` or ``"gaussian"``.
        exact_divergence: sum over all D directions instead of probes.
        terminal: ``"corrected"`` or ``"prior"``.
        seed: seed of the probes.
    """

    denoiser: Denoiser
    images: torch.Tensor
    keys: Sequence[bytes]
    sde: SDE
    num_probes: int
    probe: str
    exact_divergence: bool
    terminal: str
    seed: int

    def __post_init__(self) -> None:
        self.num_classes, self.batch_size = self.denoiser.num_classes, self.denoiser.batch_size
        self.shape = tuple(self.images.shape[1:])
        self.num_elements = math.prod(self.shape)
        self.evaluations = 0

    def solve(self, solver: str, num_steps: int, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(x | k) of each probe in nats [B, K, P], float64, and network evaluations of each image [B].

        Args:
            solver: name of the solver, see ``SOLVERS``.
            num_steps: steps of the other solvers.
            tolerance: tolerance of the adaptive one, which takes every image by itself.

        Raises:
            ValueError: when a result is not finite, or the tolerance cannot be met.
        """
        count = len(self.images)
        if solver == "dopri5":
            solved = [self._solve_one(i, tolerance) for i in range(count)]
            parts, spent = [part for part, _ in solved], [evaluations for _, evaluations in solved]
        else:
            everything = torch.arange(count)
            parts = [self._total(everything, *self._solve_all(everything, solver, num_steps))]
            spent = [self.evaluations // max(1, count)] * count
        blank = self.images.new_zeros(0, self.num_classes, self._directions, dtype=torch.float64)
        values = torch.cat([blank, *parts])
        if not bool(torch.isfinite(values).all()):
            bad = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"network: expected finite likelihoods, got NaN or infinity for image(s) {bad[:10]} of the batch; are "
                "the images scaled as in training?"
            )
        return values, torch.tensor(spent, dtype=torch.int64, device=values.device)

    @property
    def _directions(self) -> int:
        """Estimates of the divergence that are kept apart: one a probe, a single one if it is exact."""
        return 1 if self.exact_divergence else self.num_probes

    def _solve_all(self, images: torch.Tensor, solver: str, num_steps: int) -> tuple[torch.Tensor, ...]:
        """State at t = 1 of images [b], all with the same steps."""
        end, start = self.sde.log_snr_range
        derivative, state = self._derivative(images), self._initial(images)
        if solver == "multistep":
            # d u / d lambda = -alpha_u sigma_u v / 2, and v is constant where there is hardly any noise, or hardly
            # anything else.
            return solve_multistep(
                derivative, state, denser_grid(start, end, num_steps), lambda t: -0.25 / np.cosh(0.5 * t)
            )
        return solve_fixed(derivative, state, even_grid(start, end, num_steps), TABLEAUS[solver])

    def _solve_one(self, index: int, tolerance: float) -> tuple[torch.Tensor, int]:
        """One image by itself, all its classes and probes in one state, so that no other image sets its steps."""
        before, (end, start), image = self.evaluations, self.sde.log_snr_range, torch.tensor([index])

        def norm(error: tuple[torch.Tensor, ...]) -> torch.Tensor:
            # Of every class, so that a large error of one is not averaged away by the others.
            return torch.stack([part.flatten(1).square().mean(1).sqrt().max() for part in error]).max()

        derivative, state = self._derivative(image), self._initial(image)
        try:
            solved = solve_adaptive(derivative, state, start, end, tolerance=tolerance, norm=norm)
        except ValueError as error:
            raise ValueError(f"{error} (image {index} of the batch)") from error
        return self._total(image, *solved), self.evaluations - before

    def _initial(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """State of images [b] at t_min: u [b K, C, *spatial], and 0 for the integral a dimension [b K, P]."""
        u = self.images[image.to(self.images.device)].double() / self._scale(self.sde.t_min)
        u = u.repeat_interleave(self.num_classes, dim=0)
        return u, u.new_zeros(len(u), self._directions)

    def _scale(self, t: torch.Tensor | float) -> float:
        """sqrt(alpha^2 + sigma^2) of the SDE."""
        alpha, sigma = self.sde.alpha_sigma(t)
        return float((alpha.square() + sigma.square()).sqrt())

    def _total(self, image: torch.Tensor, u: torch.Tensor, integral: torch.Tensor) -> torch.Tensor:
        """log p(x | k) [b, K, P] from the state at t = 1."""
        if self.terminal == "prior":
            z, std = u * (self._scale(1.0) / self.sde.prior_std), self.sde.prior_std / self._scale(1.0)
        else:
            end = self.sde.log_snr_range[0]
            with torch.no_grad():
                z = self._epsilon(u.to(self.images.dtype), end, *self._labels(image)).double()
            std = float(alpha_sigma(torch.tensor(end, dtype=torch.float64))[1])
        density = -0.5 * z.square().flatten(1).sum(1, keepdim=True)
        constant = -0.5 * math.log(2 * math.pi) - math.log(std) - math.log(self._scale(self.sde.t_min))
        return (density + self.num_elements * (constant + integral)).view(
            len(image), self.num_classes, self._directions
        )

    def _labels(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and image of each state of images [b], int64 [b K]."""
        labels = torch.arange(self.num_classes, device=self.images.device).repeat(len(image))
        return labels, image.to(self.images.device).repeat_interleave(self.num_classes)

    def _derivative(self, image: torch.Tensor) -> Callable[[float, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
        """d state / d lambda for the states of images [b]."""
        directions, device = self._probes(image), self.images.device
        labels, owners = self._labels(image)
        norms = directions.flatten(2).square().sum(2).repeat_interleave(self.num_classes, dim=0)
        rows = torch.arange(self.num_classes * len(image), device=device).repeat_interleave(directions.shape[1])

        def derivative(log_snr: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            u = state[0]
            epsilon, products = torch.empty_like(u), u.new_empty(len(rows))
            for start in range(0, len(rows), self.batch_size):
                part = slice(start, start + self.batch_size)
                row = rows[part]
                # A probe is its image's, the same under all classes.
                probe = directions[
                    row // self.num_classes, torch.arange(len(rows), device=device)[part] % directions.shape[1]
                ]
                epsilon[row], products[part] = self._evaluate(u[row], log_snr, labels[row], owners[row], probe)
            products = products.view(len(u), directions.shape[1])
            _, sigma = (float(factor) for factor in alpha_sigma(torch.tensor(log_snr, dtype=torch.float64)))
            slope = 0.5 * sigma * (sigma * u - epsilon)
            # v^T (sigma_u - d epsilon_hat / du) v of each probe; over a basis they add up to the exact trace.
            divergence = sigma * norms - products
            divergence = divergence.sum(1, keepdim=True) if self.exact_divergence else divergence
            return slope, 0.5 * sigma * divergence / self.num_elements

        return derivative

    def _probes(self, image: torch.Tensor) -> torch.Tensor:
        """Directions of each image [b, P, C, *spatial], float64, that depend on its pixels and the seed only."""
        images = self.images[image.to(self.images.device)]
        if self.exact_divergence:
            basis = torch.eye(self.num_elements, dtype=torch.float64, device=images.device)
            return basis.view(1, self.num_elements, *self.shape).expand(len(images), -1, *self.shape)
        keys = [self.keys[index] for index in image.tolist()]
        random = ImageRandom(keys, self.seed, purpose=b"divergence", device=images.device)
        count = len(images)
        image = torch.arange(count).repeat_interleave(self.num_probes)
        index = torch.arange(self.num_probes).repeat(count)
        make = random.normal if self.probe == "gaussian" else random.sign
        return make(image, index, self.shape).double().view(count, self.num_probes, *self.shape)

    def _evaluate(
        self, u: torch.Tensor, log_snr: float, labels: torch.Tensor, owners: torch.Tensor, probe: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """epsilon_hat [n, C, *spatial] and v^T (d epsilon_hat / du) v [n] of states u under their classes."""
        # Also inside an evaluator's no_grad or inference_mode: the divergence is a derivative.
        with torch.inference_mode(False), torch.enable_grad():
            point = u.clone().to(self.images.dtype).requires_grad_(True)
            epsilon = self._epsilon(point, log_snr, labels, owners)
            (product,) = torch.autograd.grad(epsilon, point, probe.to(epsilon))
        return epsilon.detach().double(), (product.double() * probe).flatten(1).sum(1)

    def _epsilon(self, u: torch.Tensor, log_snr: float, labels: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        """epsilon_hat [n, C, *spatial] of states u [n, C, *spatial] of some images [n] under their classes [n]."""
        t = self.sde.time(log_snr).clamp(self.sde.t_min, 1.0)
        self.evaluations += len(u)
        x = self._scale(t) * u
        return self.denoiser.epsilon(x, t, labels, image=owners)
