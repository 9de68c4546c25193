# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The figures that a report has of a run: votes of right and wrong images, reliability, training."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .curves import classify, predicted, probabilities
from .data import ReportData
from .figures import CLASS_COLOURS, FAINT, INK, MUTED, STYLE, panels, percent
from .run_facts import TrainingCurve

__all__ = ["reliability", "reliability_figure", "training_figure", "votes_figure"]

_WRONG = CLASS_COLOURS[1]


def reliability(
    labels: NDArray[Any], values: NDArray[Any], num_bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Of the class called, bin by bin of its probability: mean probability, share that were right, number of images.

    Args:
        labels: true classes [B].
        values: class probabilities [B, K].
        num_bins: bins of equal width from 0 to 1; empty ones are left out.

    Example:
        >>> mean, right, count = reliability(np.array([0, 1, 1]), np.array([[0.95, 0.05], [0.25, 0.75], [0.75, 0.25]]))
        >>> mean.tolist(), right.tolist(), count.tolist()
        ([0.75, 0.95], [0.5, 1.0], [2, 1])
    """
    sure, right = values.max(1), values.argmax(1) == labels
    bins = np.minimum((sure * num_bins).astype(int), num_bins - 1)
    found = np.unique(bins)
    mean = np.array([sure[bins == b].mean() for b in found])
    return mean, np.array([right[bins == b].mean() for b in found]), np.array([(bins == b).sum() for b in found])


@matplotlib.rc_context(STYLE)
def reliability_figure(data: ReportData, rule: str) -> Figure:
    """Reliability of one rule's probabilities, as they are and after calibration where there is one."""
    shown = {"as they are": probabilities(data, rule)}
    if data.run is not None and rule in data.run.calibrated:
        shown["calibrated"] = np.asarray(data.run.calibrated[rule])
    figure, axes = panels(len(shown), size=(5.2, 3.3))
    lowest = 1 / data.errors.num_classes
    for axis, (title, values) in zip(axes, shown.items(), strict=True):
        mean, right, count = reliability(data.labels, values)
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        axis.plot(mean, right, color=INK, linewidth=1.2)
        axis.scatter(mean, right, s=10 + 90 * count / count.max(), color=INK, linewidths=0, zorder=3)
        axis.set(xlim=(min(lowest, 0.5) - 0.04, 1.04), ylim=(-0.04, 1.04))
        axis.set_title(title, pad=8)
        axis.set_xlabel("probability of the class called")
        percent(axis, x=True, y=True)
    axes[0].set_ylabel("share that were right")
    return figure


@matplotlib.rc_context(STYLE)
def votes_figure(data: ReportData) -> Figure:
    """How the winner's share of the votes is spread, of images called rightly and wrongly."""
    share = classify(data.errors, "vote", data.weighting).vote_share.max(1).values.double().numpy()
    right = predicted(data, next(iter(data.rules))) == data.labels
    bins = np.linspace(min(float(share.min()), 0.95), 1, 21)
    figure, (axis,) = panels()
    axis.hist(
        [share[right], share[~right]], bins.tolist(), stacked=True, color=[FAINT, _WRONG], label=["right", "wrong"]
    )
    axis.set_xlabel("share of the votes for the class that won")
    axis.set_ylabel("images")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    percent(axis, x=True, y=False)
    axis.set_ylim(0, 1.3 * axis.get_ylim()[1])
    axis.legend(loc="upper left", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def training_figure(curve: TrainingCurve) -> Figure:
    """Training loss and the validation metric by epoch."""
    figure = Figure(figsize=(5.2, 3.3), layout="constrained")
    parts = [
        ("training loss", curve.epochs, curve.loss),
        (f"validation {curve.metric}", curve.validated, curve.quality),
    ]
    parts = [part for part in parts if len(part[1])]
    axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, epochs, values) in zip(axes, parts, strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(length=0, labelcolor=MUTED, pad=5)
        axis.grid(color=FAINT, linewidth=0.6)
        axis.plot(epochs, values, color=INK, linewidth=1.6, marker="o" if len(epochs) < 30 else None, markersize=3)
        axis.set_title(title, pad=6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel("epoch")
    return figure
