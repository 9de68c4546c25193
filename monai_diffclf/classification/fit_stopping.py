# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How boldly to stop: alpha of the predictive rule, chosen on validation errors for a risk that hangs on no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from .._checks import check_folds
from .._patients import patient_codes
from .denoising_errors import DenoisingErrors, check_errors
from .difference_model import DifferenceModel
from .draw_weights import Weighting
from .predictive_curtailment import PredictiveCurtailment
from .replay import replay
from .rules import check_rule, classify_errors
from .stopping import check_alpha
from .vote_model import VoteModel

__all__ = ["StoppingFit", "fit_model", "fit_stopping"]

ALPHAS = (0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.9)
SPENDING = (0.5, 0.0)

Array = NDArray[Any]


@dataclass(frozen=True)
class StoppingFit:
    """A stopping rule, and what it did on validation images by a model of other patients.

    Args:
        stopping: the rule, with a model of all of them.
        disagreement: share of the images with another class than that of all draws.
        evaluations: mean network evaluations an image.
        first_draw: share of the images that spend no more than K + 1 evaluations.
        patients: how many patients, or images where they are unknown.
    """

    stopping: PredictiveCurtailment
    disagreement: float
    evaluations: float
    first_draw: float
    patients: int


def fit_model(errors: DenoisingErrors, rule: str) -> VoteModel | DifferenceModel:
    """The model of the draws to come that `PredictiveCurtailment` needs for a rule of decision.

    Raises:
        ValueError: as :meth:`DifferenceModel.fit`.
    """
    return VoteModel.fit(errors) if rule == "vote" else DifferenceModel.fit(errors, rule)


def fit_stopping(
    errors: DenoisingErrors,
    rule: str = "mean",
    *,
    risk: float = 0.01,
    weighting: Weighting = "uniform",
    patients: Sequence[str | None] | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> StoppingFit:
    """Choose how boldly the predictive rule stops, for a share of images with another class than that of all draws.

    The rule looks after every draw from the first on; each image of the validation is judged by a model of other
    patients. Of alpha the largest value is taken with

        (P R(alpha) + 1) / (P + 1) <= risk,

    R being the mean over the P patients of the share of their images that differ at this alpha or a smaller one
    (conformal risk control, Angelopoulos et al. 2024, theorem 1). An image of a new patient then gets another class
    than that of all draws with probability at most ``risk``, for patients exchangeable with those of the validation,
    and whatever the draws are like. It is exact for a model fitted to patients apart; the model of all of them, which
    the rule has in the end, is as good or better but not covered to the letter, nor is the choice between risk that is
    spent late and evenly (``spending``), which is made by the evaluations.

    Args:
        errors: errors of validation images [n, K, N], all draws made.
        rule: ``"mean"``, ``"vote"`` or ``"weighted_vote"``.
        risk: largest share of images with another class, in (0, 1).
        weighting: see :func:`monai_diffclf.classification.draw_weights`.
        patients: patient of each image [n]; one that is not known (None, NaN or empty) is alone.
        num_folds: folds of the cross-fitting.
        seed: seed of the folds.

    Raises:
        TypeError: when ``errors`` is no `DenoisingErrors`.
        ValueError: when errors are missing or infinite, patients do not fit, or there are too few of them for the risk,
            at least 1 / risk - 1, or too few draws for a model.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> values = torch.rand(200, 2, 1, generator=generator) + 0.02 * torch.rand(200, 2, 32, generator=generator)
        >>> errors = DenoisingErrors(values, torch.arange(32), torch.linspace(6, -6, 32))
        >>> fit = fit_stopping(errors, risk=0.02)  # all draws of an image say nearly the same
        >>> fit.disagreement <= 0.02, fit.first_draw > 0.9
        (True, True)
    """
    check_rule(rule)
    check_alpha(risk, "risk")
    group = patient_codes(patients, len(check_errors(errors, complete=True)))
    count = int(group.max(initial=-1)) + 1
    if 1 / (count + 1) > risk:
        raise ValueError(
            f"risk: expected at least {1 / (count + 1):.3g} with {count} validation patients, or images, got {risk:g}; "
            "allow more, or add patients"
        )
    check_folds(num_folds, None if count > 1 else count)
    differ, spent = _judged(errors, rule, weighting, group, num_folds, seed)
    # Bolder never counts as better: so the risk is one of a nested family.
    bound = np.maximum.accumulate(differ, axis=1)
    best: tuple[float, int, int] | None = None
    for s in range(len(SPENDING)):
        for a in range(len(ALPHAS)):
            of_patient = np.bincount(group, bound[s, a]) / np.bincount(group)
            if (of_patient.sum() + 1) / (count + 1) <= risk:
                found = (float(spent[s, a].mean()), s, a)
                best = found if best is None or found < best else best
    if best is None:
        raise ValueError(f"risk: expected more than what the most careful rule has on these images, got {risk:g}")
    _, s, a = best
    return StoppingFit(
        _rule(ALPHAS[a], SPENDING[s], fit_model(errors, rule), risk),
        float(differ[s, a].mean()),
        float(spent[s, a].mean()),
        float((spent[s, a] <= errors.num_classes + 1).mean()),
        count,
    )


def _rule(
    alpha: float, spending: float, model: VoteModel | DifferenceModel, risk: float | None = None
) -> PredictiveCurtailment:
    return PredictiveCurtailment(alpha, model, block=1, min_draws=1, spending=spending, risk=risk)


def _judged(
    errors: DenoisingErrors, rule: str, weighting: Weighting, group: Array, num_folds: int, seed: int
) -> tuple[Array, Array]:
    """Of each rule and image, whether the class differs and what was spent: two of [S, A, n]."""
    full = classify_errors(errors, rule, weighting=weighting).predicted
    differ = np.zeros((len(SPENDING), len(ALPHAS), len(errors)))
    spent = np.zeros_like(differ)
    folds = GroupKFold(min(num_folds, len(np.unique(group))), shuffle=True, random_state=seed)
    for fit, held in folds.split(group, groups=group):
        model, own = fit_model(errors[torch.from_numpy(fit)], rule), torch.from_numpy(held)
        for s, spending in enumerate(SPENDING):
            for a, alpha in enumerate(ALPHAS):
                result = replay(errors[own], _rule(alpha, spending, model), rule=rule, weighting=weighting)
                differ[s, a, held] = (result.predicted != full[own]).double().cpu().numpy()
                spent[s, a, held] = result.network_evaluations.double().cpu().numpy()
    return differ, spent
