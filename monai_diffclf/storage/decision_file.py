# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a bundle has learned from its validation errors about spending draws."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..classification import (
    DifferenceModel,
    FewDraws,
    LevelSampling,
    LevelWeights,
    PredictiveCurtailment,
    VoteModel,
)
from .atomic_file import replace_text
from .fitted_checks import check_decision, read_fitted

__all__ = ["LearnedDecision", "load_decision", "save_decision"]


@dataclass(frozen=True)
class LearnedDecision:
    """For one rule of decision: how to stop early, where to make draws, and how to weight them.

    Args:
        model: model of the draws to come, for :class:`monai_diffclf.classification.PredictiveCurtailment`.
        level_sampling: ``noise_levels`` under which the same answer needs fewer draws.
        level_weights: ``weighting`` of another classifier, which tells the classes apart better on validation images.
        network: hash of the network it was learned from, see :func:`monai_diffclf.networks.network_hash`.
        fitted: the stopping rule that validation images chose, see
            :func:`monai_diffclf.classification.fit_stopping`; None for none.
        few_draws: number of draws to the levels where so few are best made, see
            :func:`monai_diffclf.classification.fit_few_draws`.
    """

    model: VoteModel | DifferenceModel
    level_sampling: LevelSampling
    level_weights: LevelWeights
    network: str = ""
    fitted: PredictiveCurtailment | None = None
    few_draws: Mapping[int, FewDraws] = field(default_factory=dict)

    def stopping(self, alpha: float = 0.01) -> PredictiveCurtailment:
        """The rule that misses the class of all draws with a probability of at most alpha.

        It is the one that validation images chose for this risk, where they did, and else that of the model alone; its
        ``guarantee`` says which.
        """
        if self.fitted is not None and self.fitted.risk == alpha:
            return self.fitted
        return PredictiveCurtailment(alpha, self.model)

    def few(self, num_draws: int) -> FewDraws:
        """Where to make this many draws.

        Raises:
            ValueError: when no levels were chosen for this number.
        """
        if num_draws not in self.few_draws:
            known = f"one of {sorted(self.few_draws)}" if self.few_draws else "a file with few_draws, fit it anew"
            raise ValueError(f"num_draws: expected {known}, for which levels were chosen, got {num_draws!r}")
        return self.few_draws[num_draws]


def save_decision(
    path: str | os.PathLike[str], decisions: dict[str, LearnedDecision], notes: dict[str, Any] | None = None
) -> None:
    """Write what was learned to a JSON file, as a whole or not at all.

    Args:
        path: the file.
        decisions: rule of decision to what was learned for it.
        notes: further values for the reader, e.g. the gain in cross-validation.
    """
    content: dict[str, Any] = dict(notes or {})
    for rule, learned in decisions.items():
        content[rule] = {
            "network": learned.network,
            "model": learned.model.to_dict(),
            "level_sampling": learned.level_sampling.to_dict(),
            "level_weights": learned.level_weights.to_dict(),
        }
        if (early := learned.fitted) is not None:
            content[rule]["stopping"] = {"alpha": early.alpha, "spending": early.spending, "risk": early.risk}
        if learned.few_draws:
            content[rule]["few_draws"] = {str(count): few.to_dict() for count, few in learned.few_draws.items()}
    replace_text(path, json.dumps(content, indent=1) + "\n")


def load_decision(path: str | os.PathLike[str], rule: str, *, network: str | None = None) -> LearnedDecision:
    """Read what `save_decision` wrote for one rule.

    Args:
        path: the file.
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``.
        network: hash of the network that it must have been learned from; None accepts any.

    Raises:
        ValueError: when the file does not exist, is no such file, lacks the rule, holds numbers that no fit gives, or
            was learned from another network.

    Example:
        >>> import tempfile
        >>> learned = LearnedDecision(VoteModel(0.5), LevelSampling([2.0, 1.0]), LevelWeights([0.0], [1.0, 3.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_decision(folder + "/decision.json", {"vote": learned})
        ...     load_decision(folder + "/decision.json", "vote").model
        VoteModel(concentration=0.5)
    """
    everything = read_fitted(path, rule, "save_decision")
    try:
        check_decision(everything, rule)
        content = everything[rule]
        model: type[VoteModel] | type[DifferenceModel] = VoteModel if rule == "vote" else DifferenceModel
        fitted = model.from_dict(content["model"])
        learned = LearnedDecision(
            fitted,
            LevelSampling.from_dict(content["level_sampling"]),
            LevelWeights.from_dict(content["level_weights"]),
            str(content.get("network", "")),
            _stopping(fitted, content.get("stopping")),
            {int(count): FewDraws.from_dict(few) for count, few in (content.get("few_draws") or {}).items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"path: expected a file written by save_decision with {rule!r}, got {path}: {error}") from None
    if network is not None and learned.network != network:
        raise ValueError(
            f"network: {path} was learned from the network {learned.network or '(not named)'}, not from {network}; "
            "learn it anew for these weights with tools.fit_decision, or take those it was learned from"
        )
    return learned


def _stopping(model: VoteModel | DifferenceModel, values: Mapping[str, float] | None) -> PredictiveCurtailment | None:
    """The rule that `fit_stopping` chose; it looks after every draw."""
    if values is None:
        return None
    return PredictiveCurtailment(
        values["alpha"], model, block=1, min_draws=1, spending=values["spending"], risk=values["risk"]
    )
