# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The figures of a report, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import auc

from .curves import auc_by_level, quality_by_draws, rejection_curve, roc_curves
from .data import ReportData

__all__ = ["CLASS_COLOURS", "draws_figure", "levels_figure", "rejection_figure", "roc_figure", "shortened", "to_svg"]

# Okabe and Ito's palette, told apart by colour-blind readers too.
CLASS_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_NAMED = 4  # classes that stand out where there are more than colours
# Drawn in these, replaced by the page's variables, so that figures follow its light and dark mode.
INK, MUTED, FAINT = "#1b1f23", "#6b7178", "#d7dadd"
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--line)"} | {
    colour: f"var(--class-{index})" for index, colour in enumerate(CLASS_COLOURS)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_LINES: dict[str, dict[str, Any]] = {
    "vote": {"color": INK, "linestyle": "-"},
    "mean": {"color": MUTED, "linestyle": (0, (4, 2))},
}


def panels(columns: int = 1, *, rows: int = 1, size: tuple[float, float] = (5.2, 3.3)) -> tuple[Figure, list[Axes]]:
    """A figure of plain panels with one vertical scale; ``size`` in inches."""
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(length=0, labelcolor=MUTED, pad=5)
        axis.grid(color=FAINT, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def percent(axis: Axes, *, x: bool, y: bool) -> None:
    """Write the numbers of these axes as per cent."""
    for chosen, side in ((x, axis.xaxis), (y, axis.yaxis)):
        if chosen:
            side.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


@matplotlib.rc_context(STYLE)
def roc_figure(data: ReportData) -> Figure:
    """ROC curves: both rules for two classes, else one curve a class."""
    figure, (axis,) = panels()
    curves = roc_curves(data)
    for (name, (false, true)), style in zip(curves.items(), _roc_styles(data, curves), strict=True):
        label = None if style["color"] == FAINT else shortened(name, 22)
        axis.plot(false, true, label=label, **{"linewidth": 1.6, **style})
    axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    others = data.class_names[0] if data.errors.num_classes == 2 else "other"
    found = data.class_names[1] if data.errors.num_classes == 2 else "the class's"
    axis.set_xlabel(f"{shortened(others)} images falsely called")
    axis.set_ylabel(f"{shortened(found)} images found")
    percent(axis, x=True, y=True)
    if data.errors.num_classes == 2:
        axis.legend(loc="lower right")
    else:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), borderaxespad=0)
    return figure


def _roc_styles(data: ReportData, curves: Mapping[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Two classes: a line a rule. More: a colour a class; more than there are colours: only for those told worst."""
    if data.errors.num_classes == 2:
        return [_LINES[rule] for rule in data.rules]
    if len(curves) <= len(CLASS_COLOURS):
        return [{"color": colour} for colour in CLASS_COLOURS[: len(curves)]]
    areas = [float(auc(false, true)) for false, true in curves.values()]
    worst = {int(k): CLASS_COLOURS[place] for place, k in enumerate(np.argsort(areas, kind="stable")[:_NAMED])}
    return [
        {"color": worst[k], "zorder": 3} if k in worst else {"color": FAINT, "linewidth": 1.0}
        for k in range(len(curves))
    ]


@matplotlib.rc_context(STYLE)
def draws_figure(data: ReportData) -> Figure:
    """AUC and balanced accuracy against the number of draws, of both rules."""
    counts, quality = quality_by_draws(data)
    figure, axes = panels(2)
    titles = {"auc": "AUC", "balanced_accuracy": "Balanced accuracy"}
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for rule, name in data.rules.items():
            axis.plot(counts, quality[metric][rule], label=name, linewidth=1.6, **_LINES[rule])
        axis.set_title(title, pad=8)
        axis.set_xscale("log")
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= counts[-1]]
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
        axis.set_xlabel("noise draws per image")
    axes[0].legend(loc="lower right")
    return figure


@matplotlib.rc_context(STYLE)
def levels_figure(data: ReportData) -> Figure:
    """AUC of each single draw against its noise level."""
    log_snr, areas = auc_by_level(data)
    figure, (axis,) = panels()
    axis.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axis.plot(log_snr, areas, "o", color=MUTED, markersize=3.5, alpha=0.55, markeredgewidth=0, label="one draw")
    smooth = gaussian_filter1d(areas, max(1.0, len(areas) / 25), mode="nearest")
    axis.plot(log_snr, smooth, color=INK, linewidth=1.6, label="trend")
    axis.invert_xaxis()
    axis.set_xlabel("← less noise      log signal-to-noise ratio      more noise →")
    axis.set_ylabel("AUC of a single draw")
    axis.set_ylim(min(0.45, areas.min() - 0.02), 1.005)
    axis.legend(loc="best")
    return figure


@matplotlib.rc_context(STYLE)
def rejection_figure(data: ReportData) -> Figure:
    """Accuracy of the rest against the share of uncertain images set aside."""
    share, accuracy = rejection_curve(data)
    figure, (axis,) = panels()
    axis.axhline(accuracy[0], color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="set aside at random")
    axis.plot(share, accuracy, color=INK, linewidth=1.6, marker="o", markersize=3.5, label="most divided votes first")
    axis.set_xlabel("images set aside for a person to read")
    axis.set_ylabel("accuracy of the rest")
    axis.set_ylim(min(accuracy) - 0.02, 1.005)
    axis.set_xlim(-0.02, max(0.2, float(np.max(share)) + 0.02))
    percent(axis, x=True, y=True)
    axis.legend(loc="upper left")
    return figure


def shortened(text: str, length: int = 28) -> str:
    r"""Text of at most this length, in which matplotlib sees no formula.

    Example:
        >>> shortened("$x$"), shortened("a name that is longer than the figure is wide", 12)
        ('\\$x\\$', 'a name that…')
    """
    text = text if len(text) <= length else text[: length - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def to_svg(figure: Figure, title: str, anchor: str = "") -> str:
    """The figure as an SVG element for the page; title and anchor keep its identifiers apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": anchor + title}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Names of groups repeat from figure to figure, and a style element inside would apply to the whole page.
    text = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    for colour, variable in _PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
