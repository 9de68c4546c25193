# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The maths of classification by denoising: no I/O, no engine, no network architecture."""

from __future__ import annotations

from typing import Any

from .._moved import moved
from .bound import VariationalBound, variational_bound
from .cascade import CascadeClassification, CascadeFit, fit_cascade
from .denoising_errors import DenoisingErrors
from .dequantization import UniformDequantization
from .difference_model import DifferenceModel
from .draw_weights import LevelWeights, draw_weights
from .draws import NoiseDraws, image_keys
from .e_process import log_e_betting, log_e_unbounded
from .few_draws import FewDraws, few_draws_auc, fit_few_draws
from .findings import MultiLabelClassification, by_finding
from .fit_stopping import StoppingFit, fit_stopping
from .fitting import fit_level_sampling, fit_level_weights
from .level_sampling import LevelSampling
from .likelihood import bits_per_dimension, classify_likelihood, empirical_prior, marginal_log_likelihood
from .look import Look
from .predictive_curtailment import PredictiveCurtailment
from .replay import replay
from .result import Classification, DenoisingClassification, LikelihoodClassification, LogitClassification
from .rules import classify_errors, count_votes, draw_scores, mean_errors, vote_uncertainty
from .stopping import CurtailedVote, SequentialTest, StagedElimination, StoppingRule
from .vote_model import VoteModel
from .vote_statistics import SURE_WHEN_LARGE, probability_uncertainty

__all__ = [
    "SURE_WHEN_LARGE",
    "CascadeClassification",
    "CascadeFit",
    "Classification",
    "CurtailedVote",
    "DenoisingClassification",
    "DenoisingErrors",
    "DifferenceModel",
    "FewDraws",
    "LevelSampling",
    "LevelWeights",
    "LikelihoodClassification",
    "LogitClassification",
    "Look",
    "MultiLabelClassification",
    "NoiseDraws",
    "PredictiveCurtailment",
    "SequentialTest",
    "StagedElimination",
    "StoppingFit",
    "StoppingRule",
    "UniformDequantization",
    "VariationalBound",
    "VoteModel",
    "bits_per_dimension",
    "by_finding",
    "classify_errors",
    "classify_likelihood",
    "count_votes",
    "draw_scores",
    "draw_weights",
    "empirical_prior",
    "few_draws_auc",
    "fit_cascade",
    "fit_few_draws",
    "fit_level_sampling",
    "fit_level_weights",
    "fit_stopping",
    "image_keys",
    "log_e_betting",
    "log_e_unbounded",
    "marginal_log_likelihood",
    "mean_errors",
    "probability_uncertainty",
    "replay",
    "variational_bound",
    "vote_uncertainty",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"log_e_symmetric": f"{__name__}:log_e_unbounded"})
