# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The AUC of several findings, some of whose labels are unknown."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import ROCAUCMetric

from .._checks import check_findings
from .statistics import roc_auc

__all__ = ["FindingsROCAUCMetric"]


class FindingsROCAUCMetric(ROCAUCMetric):
    """MONAI's `ROCAUCMetric` of findings, each over the images in which it is known to be present or absent.

    Called with probabilities [B, L] and labels [B, L]: 0 absent, 1 present, 2 unknown. Where nothing is unknown it is
    MONAI's.

    Args:
        average: ``"macro"`` for the mean over the findings, ``"none"`` for one each [L].

    Raises:
        ValueError: when ``average`` is another; when aggregated, if a finding is nowhere present, or nowhere absent.

    Example:
        >>> metric = FindingsROCAUCMetric("none")
        >>> _ = metric(torch.tensor([[0.9, 0.1], [0.2, 0.7], [0.4, 0.6]]), torch.tensor([[1, 0], [0, 1], [2, 0]]))
        >>> metric.aggregate().tolist()
        [1.0, 1.0]
    """

    def __init__(self, average: str = "macro") -> None:
        if average not in ("macro", "none"):
            raise ValueError(f"average: expected 'macro' or 'none', got {average!r}")
        super().__init__(average)

    def __call__(self, y_pred: Any, y: Any = None, *, repeated: Any = None, **kwargs: Any) -> Any:
        """Add a batch: probabilities [B, L], labels [B, L], and which images not to count [B]."""
        if repeated is not None and y is not None:  # what is known of them is left out
            labels = [torch.as_tensor(label) for label in y]
            y = [torch.full_like(each, 2) if r else each for each, r in zip(labels, repeated, strict=True)]
            y_pred = list(y_pred)
        return super().__call__(y_pred, y, **kwargs)

    def aggregate(self, average: Any = None) -> Any:
        """The AUC of all images so far, float64: [] or [L]."""
        predictions, labels = self.get_buffer()
        labels = check_findings(labels, predictions.shape[1], len(predictions))
        values = []
        for finding, (scores, states) in enumerate(zip(predictions.double().cpu().numpy().T, labels.T, strict=True)):
            known = states != 2
            if len(set(states[known].tolist())) < 2:
                raise ValueError(
                    f"labels: expected images with and without finding {finding}, got {int((states == 1).sum())} with, "
                    f"{int((states == 0).sum())} without; leave the finding out"
                )
            values.append(float(roc_auc(states[known], scores[known])))
        each = torch.tensor(values, dtype=torch.float64)
        return each.mean() if (average or self.average) == "macro" else each
