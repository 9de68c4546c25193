"""The plots of ``docs/benchmark.html``, in the style of the package's reports; see ``benchmarks/page/make_page.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from monai_diffclf.report import figures
from monai_diffclf.report.figures import CLASS_COLOURS, INK, MUTED

# Told apart by colour, line and marker.
LOOKS: dict[str, dict[str, Any]] = {
    "predictive": {"color": CLASS_COLOURS[0], "marker": "o", "label": "predictive"},
    "sequential": {"color": CLASS_COLOURS[1], "marker": "s", "linestyle": (0, (5, 2)), "label": "sequential test"},
    "fixed": {"color": CLASS_COLOURS[2], "marker": "^", "linestyle": (0, (1, 1.5)), "label": "fewer draws for all"},
    "curtailed": {"color": CLASS_COLOURS[3], "marker": "D", "label": "exact curtailment"},
    "all": {"color": INK, "marker": "*", "markersize": 9, "label": "all draws"},
}
BARE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (4, 2)), "marker": "s", "label": "bare network"}
OURS: dict[str, Any] = {"color": CLASS_COLOURS[0], "marker": "o", "label": "compute_errors"}
RULES = {"vote": "Majority vote", "mean": "Mean error"}
PROBLEMS = {
    "pairs": "Pairs of similar classes",
    "random": "Random classes",
    "equal": "All classes equally far apart",
    "easy_pairs": "Pairs, one draw tells more",
}
STYLE: dict[Any, Any] = {**figures.STYLE, "legend.fontsize": 8, "lines.linewidth": 1.5, "lines.markersize": 4.5}
Row = dict[str, Any]


def panels(columns: int = 1, *, rows: int = 1, wide: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side with one scale."""
    return figures.panels(columns, rows=rows, size=(10.6 if wide else 5.2, 2.8 * rows + 0.5))


def log_axis(axis: Axes, which: str, ticks: Sequence[float]) -> None:
    """A logarithmic axis with ticks at the numbers given, as plain numbers."""
    side = axis.xaxis if which == "x" else axis.yaxis
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    side.set_major_locator(FixedLocator(list(ticks)))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(lambda value, _: f"{value:,.10g}")


def log_ticks(low: float, high: float, steps: Sequence[float] = (1, 3)) -> list[float]:
    """Ticks 1, 3, 10, 30, ... within a range, or 1, 2, 5, 10, ..."""
    every = [step * 10.0**power for power in range(-5, 8) for step in steps]
    return [tick for tick in every if low * 0.99 <= tick <= high * 1.01]


def save_png(figure: Figure, path: str) -> None:
    """The figure as a picture, to look at."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=110, facecolor="white")


@matplotlib.rc_context(STYLE)
def methods_figure(methods: Sequence[Row]) -> Figure:
    """How many times faster than the reference loop each method is."""
    figure, (axis,) = panels(wide=True)
    figure.set_size_inches(10.6, 0.9 + 0.27 * len(methods))
    ordered = sorted(methods, key=lambda row: -row["times_faster"])
    for place, row in enumerate(ordered):
        colour = CLASS_COLOURS[0] if row["label"].startswith("ours") else MUTED
        axis.barh(place, row["times_faster"] - 1, left=1, color=colour, height=0.62)
        axis.text(max(1.0, row["times_faster"]) * 1.04, place, f"{row['times_faster']:.3g}", va="center", fontsize=8)
    axis.set_yticks(range(len(ordered)), [row["label"] for row in ordered])
    top = max(row["times_faster"] for row in methods)
    low = min(0.8, 0.8 * min(row["times_faster"] for row in methods))
    axis.set(xlim=(low, top * 1.5), ylim=(len(ordered) - 0.4, -0.6))
    log_axis(axis, "x", log_ticks(low, top * 1.5, (1, 2, 5)))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("times faster than the reference loop (wall clock, logarithmic)")
    return figure


def _curves(rows: Sequence[Row], rule: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        name, of = row["curve"].rsplit("_", 1)
        if of == rule:
            found.setdefault(name, []).append(row)
    return {name: sorted(found[name], key=lambda row: row["evaluations"]) for name in LOOKS if name in found}


@matplotlib.rc_context(STYLE)
def quality_figure(rows: Sequence[Row], quality: str, milliseconds: dict[str, float] | None = None) -> Figure:
    """Agreement or accuracy of the replayed rules against evaluations, or seconds, for vote and mean.

    Args:
        rows: curves of ``speed.json``.
        quality: "agreement" or "accuracy".
        milliseconds: time of an evaluation by curve, where seconds are wanted.
    """
    figure, axes = panels(2)
    every = []
    for axis, (rule, title) in zip(axes, RULES.items(), strict=True):
        for name, found in _curves(rows, rule).items():
            time_each = (
                1.0 if milliseconds is None else milliseconds.get(f"{name}_{rule}", milliseconds["exact"]) / 1000
            )
            x = [time_each * row["evaluations"] for row in found]
            axis.plot(x, [100 * row[quality]["value"] for row in found], **LOOKS[name])
            every += x
        axis.set_title(title, pad=8)
        axis.set_xlabel("evaluations per image" if milliseconds is None else "seconds per image")
    for axis in axes:
        log_axis(axis, "x", log_ticks(min(every), max(every)))
        axis.set_xlim(min(every) * 0.8, max(every) * 1.3)
    reference = "agreement with all draws" if quality == "agreement" else "accuracy"
    axes[0].set_ylabel(f"{reference} / %")
    handles: dict[str, Any] = {}
    for axis in axes:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def cost_figure(rows: Sequence[Row], key: str, label: str) -> Figure:
    """Milliseconds an evaluation against batch or image size."""
    figure, (axis,) = panels()
    x = [row[key] for row in rows]
    axis.plot(x, [row["bare_ms"] for row in rows], **BARE)
    axis.plot(x, [row["compute_errors_ms"] for row in rows], **OURS)
    values = [row[name] for row in rows for name in ("bare_ms", "compute_errors_ms")]
    log_axis(axis, "x", x)
    log_axis(axis, "y", log_ticks(min(values) * 0.7, max(values) * 1.4, (1, 2, 3, 4, 5, 7)))
    axis.set_ylim(min(values) * 0.75, max(values) * 1.35)
    axis.set_xlabel(label)
    axis.set_ylabel("milliseconds per evaluation")
    axis.legend(loc="best")
    return figure


@matplotlib.rc_context(STYLE)
def draws_figure(rows: Sequence[Row]) -> Figure:
    """Evaluations until decided against the number of all draws N."""
    figure, axes = panels(2)
    counts = sorted({row["num_draws"] for row in rows})
    values = [row["evaluations"] for row in rows]
    for axis, (rule, title) in zip(axes, RULES.items(), strict=True):
        for name, found in _curves(rows, rule).items():
            found = sorted(found, key=lambda row: row["num_draws"])
            axis.plot([row["num_draws"] for row in found], [row["evaluations"] for row in found], **LOOKS[name])
        axis.set_title(title, pad=8)
        axis.set_xlabel("all draws N")
        log_axis(axis, "x", counts)
        log_axis(axis, "y", log_ticks(min(values), max(values) * 1.1))
    axes[0].set_ylabel("evaluations per image")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def classes_figure(rows: Sequence[Row]) -> Figure:
    """Evaluations relative to the fewest classes against the number of classes, by problem."""
    figure, axes = panels(2, rows=2, wide=True)
    top = 1.0
    for axis, (problem, title) in zip(axes, PROBLEMS.items(), strict=True):
        found = sorted((row for row in rows if row["problem"] == problem), key=lambda row: row["num_classes"])
        x = [row["num_classes"] for row in found]
        for key, (name, rule) in {f"{n}_{r}": (n, r) for n in ("predictive", "sequential") for r in RULES}.items():
            style = {**LOOKS[name], "label": f"{LOOKS[name]['label']}, {rule}"}
            if rule == "vote":
                style |= {"markerfacecolor": "none", "alpha": 0.7, "linewidth": 1.0}
            values = [row[key]["relative"] for row in found]
            axis.plot(x, values, **style)
            top = max(top, *values)
        axis.plot(x, [k / x[0] for k in x], color=INK, linewidth=1, label="all draws of all classes")
        axis.axhline(5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="target for 20 classes")
        axis.set_title(title, pad=8)
        log_axis(axis, "x", x)
    for axis in axes[-2:]:
        axis.set_xlabel("number of classes K")
    log_axis(axes[0], "y", log_ticks(1, max(top, 10) * 1.2, (1, 2, 5)))
    for axis in axes[::2]:
        axis.set_ylabel("evaluations per image\nover those for the fewest classes")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
