"""Logistic regression and shrunken LDA on pooled features of a frozen encoder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.evidence.data import Images
from benchmarks.evidence.features import pooled_features
from benchmarks.evidence.measures import MEASURES
from benchmarks.evidence.method import Prediction

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class ProbeMethod:
    """A linear classifier on standardised pooled features, each class with the same weight.

    The strength C of the logistic regression is the one of `STRENGTHS` with the best macro AUC on validation; the
    shrinkage of the LDA is that of Ledoit and Wolf (2004).

    Args:
        kind: "logistic" or "lda".
        encoder: name of the frozen encoder.
    """

    def __init__(self, kind: str, encoder: str = "efficientnet_lite0") -> None:
        self.settings: dict[str, Any] = {"kind": kind, "encoder": encoder, "size": 224}
        if kind == "logistic":
            self.settings["C"] = list(STRENGTHS)

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedProbe:
        """Encode the images, or read their features, and fit."""
        features = pooled_features(train, self.settings["encoder"])
        judged = pooled_features(validation, self.settings["encoder"])
        start = time.perf_counter()
        scale = StandardScaler().fit(features)
        x, v = scale.transform(features), scale.transform(judged)
        if self.settings["kind"] == "lda":
            classes = len(np.unique(train.labels))
            best: Any = LinearDiscriminantAnalysis(
                solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes)
            )
            best.fit(x, train.labels)
        else:
            candidates = [
                LogisticRegression(C=c, max_iter=1000, class_weight="balanced").fit(x, train.labels) for c in STRENGTHS
            ]
            best = max(candidates, key=lambda m: float(MEASURES["macro_auc"](validation.labels, m.predict_proba(v))))
        facts = {
            "training_seconds": round(time.perf_counter() - start, 2),
            "evaluations": 1,
            "parameters": int(best.coef_.size + best.intercept_.size),
            "C": getattr(best, "C", None),
        }
        return FittedProbe(best, scale, class_distances(x, train.labels), self.settings["encoder"], facts)


class FittedProbe:
    """See `ProbeMethod`; unlikeness is the Mahalanobis distance to the nearest class mean (Lee et al., 2018)."""

    def __init__(self, model: Any, scale: Any, distances: Any, encoder: str, facts: dict[str, Any]) -> None:
        self.model, self.scale, self.distances, self.encoder, self.facts = model, scale, distances, encoder, facts

    def predict(self, images: Images) -> Prediction:
        """Probabilities and distances."""
        x = self.scale.transform(pooled_features(images, self.encoder))
        return Prediction(self.model.predict_proba(x).astype(np.float64), self.distances(x))


def class_distances(x: NDArray[Any], labels: NDArray[np.int64], components: int = 128) -> Any:
    """A function from features to the squared Mahalanobis distance to the nearest class mean, in principal components.

    The covariance is that within classes, of the leading components: all of 1,280 would be singular.
    """
    means = np.stack([x[labels == k].mean(0) for k in np.unique(labels)])
    within = x - means[np.searchsorted(np.unique(labels), labels)]
    _, singular, basis = np.linalg.svd(within, full_matrices=False)
    kept = min(components, max(1, len(x) // 5), int((singular > 1e-6 * singular[0]).sum()))
    project = (basis[:kept].T / (singular[:kept] / np.sqrt(len(x)))).astype(np.float64)
    centres = means @ project

    def distances(features: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (((features @ project)[:, None] - centres) ** 2).sum(2).min(1)
        return found

    return distances
