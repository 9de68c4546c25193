# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A MONAI inferer for the several findings of one image, by one network that knows of unknown ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from monai.networks.schedulers import Scheduler

from .._checks import check_findings
from ..classification import DenoisingErrors, StoppingRule, replay
from ..classification.draw_weights import Weighting, draw_weights
from ..classification.findings import MultiLabelClassification, by_finding, check_prior, classify_findings
from ..classification.replay import classify_draws, run_draws
from ..networks.class_use import is_same
from ..networks.conditioning import image_parameters
from ..networks.findings import UNKNOWN, FindingsConditioning, make_findings_conditioning
from ..networks.schedulers.noise_process import NoiseProcess
from .diffusion_classifier import DiffusionClassifierInferer
from .finding_evaluator import FindingEvaluator, StatesOfQuestions
from .near_ties import redo_near_ties

__all__ = ["MultiLabelClassifierInferer"]


class MultiLabelClassifierInferer(DiffusionClassifierInferer):
    """Say of each of L findings whether it is present, by how well one network denoises the image with and without it.

    The network is conditioned on a state of every finding: 0 absent, 1 present, 2 unknown. For finding i and draw n the
    same noisy image is denoised as absent and as present, the others unknown (or as given), and the two errors decide
    as those of two classes do in `DiffusionClassifierInferer`. With the weighting ``"elbo"`` and the exact denoiser the
    mean of the draws tends to log p(x | y_i = 1) - log p(x | y_i = 0), in which the others are averaged over as the
    training images have them; with a prior that is the posterior of the finding. A draw costs 2 L evaluations, not 2^L.
    All questions about an image share its noise and its latents. With a stopping rule each finding stops for itself.

    Args:
        scheduler: see :class:`DiffusionClassifierInferer`.
        num_findings: findings L.
        num_draws: noise draws an image, N.
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``, of each finding.
        weighting: weighting of the draws.
        conditioning: how the states reach the network: ``"class_labels"``, ``"crossattn"`` or a callable from states
            [n, L], int64, to keyword arguments, see :func:`monai_diffclf.networks.make_findings_conditioning`.
        batch_size: network evaluations in one forward call.
        prior: how often each finding is present where the classifier is used [L], in (0, 1); None for 1/2 each.
        settings: further settings of `DiffusionClassifierInferer`: ``stopping``, ``seed``, ``temperature``,
            ``noise_levels``, ``amp_dtype``, ``latent_space``, ``map_weighting``, ``map_smoothing``.

    Raises:
        TypeError: as `DiffusionClassifierInferer`.
        ValueError: as `DiffusionClassifierInferer`, or when the prior does not fit.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Denoiser(torch.nn.Module):  # knows that finding i, where present, makes column i white
        ...     def forward(self, x, timesteps, states):
        ...         return (states == 1).float()[:, None, None].expand_as(x)
        >>> scheduler = DDPMScheduler(num_train_timesteps=100, schedule="cosine", prediction_type="sample")
        >>> inferer = MultiLabelClassifierInferer(
        ...     scheduler, num_findings=3, num_draws=5, conditioning=lambda states: {"states": states})
        >>> image = torch.tensor([0.0, 1.0, 0.0]).expand(1, 1, 3, 3)
        >>> result = inferer.classify(image, Denoiser().eval())
        >>> result.predicted, result.network_evaluations
        (tensor([[0, 1, 0]]), tensor([30]))
    """

    def __init__(
        self,
        scheduler: Scheduler | NoiseProcess,
        num_findings: int,
        *,
        num_draws: int = 51,
        rule: str = "vote",
        weighting: Weighting = "uniform",
        conditioning: str | FindingsConditioning = "class_labels",
        batch_size: int | None = None,
        prior: Sequence[float] | torch.Tensor | None = None,
        **settings: Any,
    ) -> None:
        by_states = make_findings_conditioning(conditioning, num_findings)
        for name in ("num_classes", "conditions_per_class"):
            if name in settings:
                raise ValueError(f"{name}: expected num_findings alone, as each finding has two classes")
        super().__init__(
            scheduler,
            2 * num_findings,
            num_draws=num_draws,
            rule=rule,
            weighting=weighting,
            conditioning=StatesOfQuestions(by_states),
            batch_size=batch_size,
            **settings,
        )
        self.num_findings, self.prior = num_findings, check_prior(prior, num_findings)
        self._check_stops(self.prior)

    def classify(
        self,
        images: torch.Tensor,
        network: Callable[..., Any],
        *,
        error_maps: bool = False,
        given: torch.Tensor | Sequence[Sequence[int]] | None = None,
        prior: torch.Tensor | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> MultiLabelClassification:
        """Classify a batch of images.

        Args:
            images: images [B, C, *spatial], 2D or 3D, finite, scaled as the network was trained.
            network: the denoiser in eval mode, called as network(x=..., timesteps=..., **conditions).
            error_maps: also return the error of each pixel for each finding, at no further network evaluation.
            given: state of each finding [B, L] that the questions about the other findings take: 0 absent, 1 present, 2
                unknown. What is given of a finding is no answer to the question about itself. None for all unknown.
            prior: in place of the inferer's [L] or [B, L], given what is given: p(y_i = 1 | the given others).
            kwargs: further arguments for the network: tensors with one row an image, and what all calls share.

        Raises:
            ValueError: when the network is in training mode or ignores a finding, ``given`` or ``prior`` do not fit,
                the images or the predictions are not finite, or the shapes are wrong.
        """
        if error_maps and self.stopping is not None:
            raise ValueError("error_maps: expected False with a stopping rule; call error_maps(), it makes all draws")
        prior = check_prior(prior, self.num_findings, len(images))
        self._check_stops(prior)
        source = self._finding_source(images, network, given, kwargs)
        if self.stopping is None:
            errors, maps = self._all_draws(source, error_maps)
            decided, guarantee = None, None
        else:
            (errors, decided), maps = self._each_until_decided(source, self.stopping), None
            guarantee = self.stopping.guarantee
        self._check_uses_findings(source, errors)
        if source.denoiser.amp_dtype is not None:
            rules: dict[str, Any] = {"rule": self.rule, "weighting": self.weighting, "stopping": self.stopping}
            again, _ = redo_near_ties(by_finding(errors), source, **rules)
            errors = replace(errors, values=again.values.reshape_as(errors.values))
        result = replace(self._from_errors(errors, prior), network_evaluations=source.spent)
        if decided is not None and guarantee is not None:
            result = replace(result, decided=decided.reshape_as(result.decided), guarantee=guarantee)
        return replace(result, error_maps=None if maps is None else self._maps_by_finding(maps, images))

    def _check_stops(self, prior: torch.Tensor | None) -> None:
        """Refuse a prior beside a stopping rule, which stops where absent and present are told apart at even odds."""
        if prior is not None and self.stopping is not None:
            raise ValueError(
                "prior: expected none with a stopping rule, which decides before the odds are moved, so that its "
                f"answer need not be that of all draws; got one with {type(self.stopping).__name__}: leave out stopping"
            )

    def compute_errors(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> DenoisingErrors:
        """All errors [B, 2 L, N], whatever the stopping rule. See :meth:`classify`, which takes ``given`` too."""
        source = self._finding_source(images, network, kwargs.pop("given", None), kwargs)
        errors = self._all_draws(source, False)[0]
        self._check_uses_findings(source, errors)
        return errors

    def error_maps(self, images: torch.Tensor, network: Callable[..., Any], **kwargs: Any) -> torch.Tensor:
        """Squared error of each pixel for each finding, absent and present [B, L, 2, *spatial], of all draws.

        See :meth:`DiffusionClassifierInferer.error_maps`, and :meth:`classify`, which takes ``given`` too.
        """
        source = self._finding_source(images, network, kwargs.pop("given", None), kwargs)
        errors, maps = self._all_draws(source, True)
        self._check_uses_findings(source, errors)
        return self._maps_by_finding(cast(torch.Tensor, maps), images)

    def classify_stored(self, values: torch.Tensor, num_elements: int) -> MultiLabelClassification:
        """Classify from stored values [n, 2 L, N] of this inferer's draws; a stopping rule is replayed."""
        errors = self.errors_from_values(values, num_elements)
        if self.stopping is None:
            return self._from_errors(errors)
        rules: dict[str, Any] = {"rule": self.rule, "weighting": self.weighting, "temperature": self.temperature}
        binary = replay(by_finding(errors), self.stopping, **rules)
        made = replace(errors, values=binary.errors.values.reshape_as(errors.values))
        return classify_findings(binary, made, self.prior)

    def decide(self, values: torch.Tensor, num_elements: int) -> MultiLabelClassification:
        """Classify from values [n, 2 L, N] as they are, NaN where not evaluated, without replaying a stopping rule."""
        return self._from_errors(self.errors_from_values(values, num_elements))

    def conditioning_of_unknown(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """The network's arguments for all 2 L questions with nothing given; empty if they need the images' own."""
        if len(image_parameters(self.conditioning)) > 1:
            return {}
        given = torch.full((self.num_classes, self.num_findings), UNKNOWN, device=device)
        return self.conditioning(torch.arange(self.num_classes, device=device), given=given)

    def _from_errors(self, errors: DenoisingErrors, prior: torch.Tensor | None = None) -> MultiLabelClassification:
        binary = classify_draws(
            by_finding(errors), self.stopping, rule=self.rule, weighting=self.weighting, temperature=self.temperature
        )
        return classify_findings(binary, errors, self.prior if prior is None else prior)

    def _finding_source(
        self, images: torch.Tensor, network: Callable[..., Any], given: Any, kwargs: dict[str, Any]
    ) -> FindingEvaluator:
        """The images, encoded once, the network, the draws, and what is given."""
        latents = self.encode(images, network).float()
        shape = (len(latents), self.num_findings)
        states = torch.full(shape, UNKNOWN)
        if given is not None:
            states = torch.from_numpy(check_findings(given, self.num_findings, len(latents), name="given"))
        states = states.to(latents.device)
        denoiser = self.denoiser(latents, network, {**kwargs, "given": states})
        return FindingEvaluator(denoiser, latents, self.draws, self.keys(images, latents), states)

    def _all_draws(  # type: ignore[override]
        self, source: FindingEvaluator, with_maps: bool
    ) -> tuple[DenoisingErrors, torch.Tensor | None]:
        """Errors of all draws and questions, and if asked for their weighted mean in each pixel, float64."""
        images, num_findings = source.images, self.num_findings
        maps, weights = None, None
        if with_maps:
            maps = torch.zeros(
                len(images), 2 * num_findings, *images.shape[2:], dtype=torch.float64, device=images.device
            )
            blank = images.new_zeros(0, 2 * num_findings, self.num_draws)
            weights = draw_weights(self.errors_from_values(blank, source.num_elements), self.map_weighting)
        rows = torch.arange(len(images) * num_findings, device=images.device)
        both = torch.ones(len(rows), 2, dtype=torch.bool, device=images.device)
        values = source.grid(rows, torch.arange(self.num_draws), both, maps=maps, map_weights=weights)
        values = values.reshape(len(images), 2 * num_findings, self.num_draws)
        errors = self.errors_from_values(values, source.num_elements)
        return errors, None if maps is None else source.whole_maps(maps) / self.num_draws

    def _each_until_decided(
        self, source: FindingEvaluator, stopping: StoppingRule
    ) -> tuple[DenoisingErrors, torch.Tensor]:
        """Errors made until each finding is decided, and which are [B L], bool."""
        shape = (len(source.images), self.num_classes, self.num_draws)
        blank = self.errors_from_values(
            torch.full(shape, torch.nan, dtype=torch.float32, device=source.images.device), source.num_elements
        )
        made, decided = run_draws(by_finding(blank), source.grid, stopping, rule=self.rule, weighting=self.weighting)
        return replace(blank, values=made.values.reshape(shape)), decided

    def _maps_by_finding(self, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        spread = self._in_pixels(maps, images)
        return spread.reshape(len(spread), self.num_findings, 2, *spread.shape[2:])

    def _check_uses_findings(self, source: FindingEvaluator, errors: DenoisingErrors) -> None:
        """Refuse a network for which a finding makes no difference: its probability would be 1/2 for ever."""
        self.check_told_apart(source.denoiser, source.images, errors.values)
        if len(errors) == 0:
            return
        pairs = errors.values.reshape(len(errors), self.num_findings, 2, -1)
        same = (pairs[:, :, 0] == pairs[:, :, 1]) | pairs.isnan().any(2)
        ignored = same.all(2).all(0).nonzero().flatten().tolist()
        for finding in ignored if len(ignored) < self.num_findings else ():
            if is_same(source.denoiser, source.images, 2 * finding, 2 * finding + 1):
                raise ValueError(
                    f"network: expected predictions that depend on each of the {self.num_findings} findings, got the "
                    f"same whether finding {finding} is absent or present; was it trained with it?"
                )
