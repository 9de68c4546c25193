# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stop when a model of the draws to come is sure of the class that all draws would give."""

from __future__ import annotations

from copy import copy

import torch
from scipy.special import stdtrit

from .._checks import check_integer
from .denoising_errors import DenoisingErrors
from .difference_model import DifferenceModel
from .draw_weights import Weighting, draw_weights
from .forecast import Forecast
from .look import Look
from .rules import RULES, mean_errors
from .stopping import check_alpha, eliminate, spaced_looks
from .vote_model import VoteModel

__all__ = ["PredictiveCurtailment"]


class PredictiveCurtailment:
    """Stop when the class that all draws would give is the leader with probability above 1 - alpha, under a model.

    After n of N draws a class is eliminated when its probability of ending above the leader is below (n / N)^s alpha /
    (K - 1). With s = 1/2 risk is taken late, where two classes are nearly level and the draws that would settle it are
    many; with s = 0 it is taken at the first draw as at any other, which is best where one draw says nearly what all
    say, as after training with a contrastive term. The probability is that of a :class:`VoteModel` for votes, of a
    :class:`DifferenceModel` for the mean and weighted votes, best fitted to the network's validation errors. It is as
    good as its model, and most images are far below alpha when they stop; replay it on stored errors to see how often
    it errs, or let :func:`monai_diffclf.classification.fit_stopping` choose alpha and s by that, for a ``risk`` that
    does not hang on the model.

    For the mean a fitted model also says in which order the draws are made: next comes the draw that leaves the total
    of all draws the least variance (:class:`monai_diffclf.classification.forecast.Forecast`). The order is the same for
    all images. The draws made are then no fair sample of the levels, so that their own mean says little: the leader is
    the class with the best mean forecast for all draws, and ``mean_error`` and the probabilities of an image that stops
    early are forecasts as well (:meth:`mean_errors`). Votes, and draws of a network that no model was fitted to, are
    made in the order in which they come, and what was made decides.

    Args:
        alpha: largest probability, image by image, that all draws would give another class, in (0, 1).
        model: the model for this rule of decision; None for a prior that knows no network: ``VoteModel()`` for votes,
            ``DifferenceModel.prior()`` else.
        block: draws between two looks.
        min_draws: draws made in any case.
        max_draws: draws after which an image is left undecided; None for all.
        spending: s, from 0 to 1: how late risk is taken.
        risk: the share of images with another class than that of all draws for which alpha was chosen on validation
            images; it is said in ``guarantee`` and changes nothing. None for an alpha that is the model's.

    Raises:
        ValueError: when an argument is out of range.

    Example:
        >>> values = torch.stack([torch.rand(1, 64), 1 + torch.rand(1, 64)], 1)
        >>> errors = DenoisingErrors(values, torch.arange(64), torch.zeros(64))
        >>> PredictiveCurtailment(0.01).remaining(Look.of(errors, 16, rule="mean")).tolist()
        [[True, False]]
    """

    rules: tuple[str, ...] = RULES

    def __init__(
        self,
        alpha: float = 0.01,
        model: VoteModel | DifferenceModel | None = None,
        *,
        block: int = 2,
        min_draws: int = 4,
        max_draws: int | None = None,
        spending: float = 0.5,
        risk: float | None = None,
    ) -> None:
        self.block, self.min_draws = check_integer(block, "block"), check_integer(min_draws, "min_draws")
        self.max_draws = None if max_draws is None else check_integer(max_draws, "max_draws")
        if self.max_draws is not None and self.min_draws > self.max_draws:
            raise ValueError(f"min_draws: expected at most max_draws, {max_draws}, got {min_draws}")
        if isinstance(spending, bool) or not isinstance(spending, (int, float)) or not 0 <= spending <= 1:
            raise ValueError(f"spending: expected a number from 0 to 1, got {spending!r}")
        self.alpha, self.model = check_alpha(alpha), model
        self.spending, self.risk = float(spending), None if risk is None else check_alpha(risk, "risk")
        if risk is None:
            sure = f"with probability above {1 - alpha:g} under the model"
        else:
            sure = f"with probability at least {1 - risk:g} for an image exchangeable with the validation images"
        self.guarantee = f"the class that all draws would give, {sure}"
        self._forecast: Forecast | None = None

    def __repr__(self) -> str:
        settings = f"block={self.block}, min_draws={self.min_draws}, max_draws={self.max_draws}"
        if self.spending != 0.5:  # as before there was a choice: records of then are found by it
            settings += f", spending={self.spending:g}"
        return f"PredictiveCurtailment(alpha={self.alpha}, model={self.model!r}, {settings})"

    def for_draws(self, weights: torch.Tensor, log_snr: torch.Tensor, rule: str) -> PredictiveCurtailment:
        """The same rule for a known set of draws: their order, and all that depends on them alone, worked out once.

        Args:
            weights: weight of each draw in the totals [N].
            log_snr: log-SNR of each draw [N].
            rule: the rule of decision.

        Raises:
            ValueError: when the model is not made for ``rule``.
        """
        if self._vote_model(rule) is not None:
            return self
        known = copy(self)
        known._forecast = self._forecast_of(weights, log_snr, choose=self._chooses(rule))
        return known

    def order(self, num_draws: int) -> torch.Tensor:
        """As they are, or as :meth:`for_draws` chose: stratified levels come in an order that is well spread."""
        return torch.arange(num_draws) if self._forecast is None else self._forecast.order

    def looks(self, num_draws: int) -> list[int]:
        """Every ``block`` draws from ``min_draws`` on."""
        return spaced_looks(num_draws, self.block, self.min_draws, self.max_draws)

    def remaining(self, look: Look) -> torch.Tensor:
        """A class is out when its chance to end above the leader is below (n / N)^s alpha / (K - 1)."""
        votes = self._vote_model(look.rule)
        limit = (look.num_made / look.num_draws) ** self.spending * self.alpha / (look.scores.shape[1] - 1)
        if votes is not None:
            return eliminate(look, lambda leads: votes.chance_to_lose(leads, look.weights, look.log_snr) < limit)
        forecast = self._forecast or self._forecast_of(look.weights, look.log_snr, choose=False)

        def is_out(leads: torch.Tensor) -> torch.Tensor:
            lead, degrees = forecast.lead(leads)
            return lead > -float(stdtrit(degrees, limit))

        return eliminate(look, is_out, forecast.totals(look.scores) if self._chooses(look.rule) else None)

    def mean_errors(self, errors: DenoisingErrors, weighting: Weighting = "uniform") -> torch.Tensor:
        """Mean error of each class over all draws, as a fitted model forecasts it from those made [B, K], float64.

        Between classes it is the mean forecast by the model, by which the rule decides; the level they share, of which
        the model knows nothing, is that of the leader, with the error of each draw not made taken from the one made
        with the nearest log-SNR. After all draws, and where no model was fitted, it is
        :func:`monai_diffclf.classification.mean_errors`.

        Args:
            errors: errors [B, K, N], NaN where the rule made none.
            weighting: see :func:`monai_diffclf.classification.draw_weights`.

        Raises:
            ValueError: when other draws were made than those that this rule makes first.
        """
        if not self._chooses("mean"):
            return mean_errors(errors, weighting)
        weights = draw_weights(errors, weighting)
        return self._forecast_of(weights, errors.log_snr, choose=True).mean_errors(errors, weighting)

    def mean_weights(self, errors: DenoisingErrors, weighting: Weighting = "uniform") -> torch.Tensor:
        """How much each draw made counts in the difference of an image's mean errors of two classes [B, N], float64.

        Args:
            errors: errors [B, K, N], NaN where the rule made none.
            weighting: see :func:`monai_diffclf.classification.draw_weights`.
        """
        weights = draw_weights(errors, weighting)
        if not self._chooses("mean"):
            return weights.expand(len(errors), -1)
        forecast = self._forecast_of(weights, errors.log_snr, choose=True)
        made = errors.evaluated.any(1).sum(1)
        shares = forecast.share[made.clamp(min=1) - 1]
        return torch.zeros_like(shares).scatter(1, forecast.order.to(shares.device).expand_as(shares), shares)

    def _chooses(self, rule: str) -> bool:
        """Whether the model chooses the order of the draws, and decides by its forecast."""
        return rule == "mean" and self.model is not None

    def _vote_model(self, rule: str) -> VoteModel | None:
        """The model of the votes, or None where differences are modelled."""
        model = VoteModel() if self.model is None and rule == "vote" else self.model
        if rule == "mean" and isinstance(model, VoteModel):
            raise ValueError(f"model: expected a DifferenceModel for the rule 'mean', got {model!r}")
        return model if isinstance(model, VoteModel) else None

    def _forecast_of(self, weights: torch.Tensor, log_snr: torch.Tensor, *, choose: bool) -> Forecast:
        model = self.model if isinstance(self.model, DifferenceModel) else DifferenceModel.prior()
        return model.forecast(weights, log_snr, choose=choose).to(weights.device)
