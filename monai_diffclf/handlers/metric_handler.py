# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI's handler of a metric, which counts each image once however many processes evaluate."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from .dataset_collector import is_repeated

__all__ = ["EachOnceMetricHandler"]


class EachOnceMetricHandler(IgniteMetricHandler):
    """MONAI's `IgniteMetricHandler`, in which an image counts once that a `DistributedSampler` gives out twice.

    Arguments are those of `IgniteMetricHandler`. The metric is called with ``repeated`` too, whether each image of the
    batch is such a one [B], so that every process has images to gather: it is of :mod:`monai_diffclf.metrics`.
    """

    def started(self, engine: Engine) -> None:
        """Begin anew."""
        super().started(engine)
        self._seen = 0

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        """Add a batch."""
        y_pred, y = self._output_transform(engine.state.output)
        sampler = getattr(engine.state.dataloader, "sampler", None)
        repeated = [is_repeated(self._seen + place, sampler) for place in range(len(y_pred))]
        self._seen += len(y_pred)
        self.metric_fn(y_pred, y, repeated=repeated)
