"""What noise levels are worth, for ``docs/benchmark.html``: the tables and the plot of fewer_draws.json."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.page.figures import RULES, STYLE, Row, panels
from benchmarks.page.tables import table
from monai_diffclf.report.figures import CLASS_COLOURS

SPLITS = {
    "validation": {"color": CLASS_COLOURS[0], "marker": "o", "label": "validation"},
    "test": {"color": CLASS_COLOURS[1], "marker": "s", "linestyle": (0, (5, 2)), "label": "test"},
}


@matplotlib.rc_context(STYLE)
def levels_figure(fewer: Row) -> Figure:
    """AUC of single parts of the noise levels, for both rules."""
    figure, axes = panels(2, wide=True)
    for axis, (rule, title) in zip(axes, RULES.items(), strict=True):
        for split, look in SPLITS.items():
            rows = fewer[split][rule]["auc_by_level"]
            middle = [(row["log_snr_from"] + row["log_snr_to"]) / 2 for row in rows]
            values = [row["value"] for row in rows]
            below = [row["value"] - row["low"] for row in rows]
            above = [row["high"] - row["value"] for row in rows]
            axis.errorbar(middle, values, yerr=[below, above], capsize=2, **look)
        axis.set_title(title)
        axis.set_xlabel("log-SNR of the level (left: little noise)")
        axis.set_xlim(7.5, -7.5)
    axes[0].set_ylabel("AUC of these levels alone")
    axes[0].legend(loc="lower left")
    return figure


def signed(found: dict[str, float], scale: float = 1.0, digits: int = 4) -> str:
    """A difference with its interval."""
    value, low, high = (f"{scale * found[name]:+.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} <small>({low} to {high})</small>"


def weights_table(fewer: Row) -> str:
    """What learned weights gain."""
    rows = []
    for split in SPLITS:
        for rule, title in RULES.items():
            found = fewer[split][rule]["weights"]
            equal, learned = (f"{found[name]['value']:.4f}" for name in ("equal", "learned"))
            rows.append([split, title, equal, learned, signed(found["gain"])])
    return table(("Images", "Rule", "AUC, equal weights", "AUC, learned weights", "Gain"), rows, words=2)


def ways_table(fewer: Row, split: str = "test") -> str:
    """Ways to spend few draws."""
    rows = []
    for rule, title in RULES.items():
        for way in fewer[split][rule]["ways"]:
            kept = "yes" if way["not_worse_than_margin"] else "no"
            share = f"1/{way['times_fewer']:.1f}" if way["times_fewer"] > 1 else "1"
            points = signed(way["accuracy_difference"], 100, 2)
            rows.append([title, way["name"], share, f"{100 * way['agreement']:.1f} %", points, kept])
    header = ("Rule", "Draws", "Evaluations", "Agreement", "Accuracy, points", "Within margin")
    return table(header, rows, words=2)


def levels_words(fewer: Row) -> dict[str, Any]:
    """Sentences of the section."""
    margin = 100 * fewer["margin"]
    return {
        "auc": "AUC by the draws of one eighth of the noise levels alone, with 95 % intervals over patients.",
        "weights": (
            "Weights and sampling were learned on validation images, whose patients are in neither the training nor "
            "the test set. Learned weights make another classifier; its gain on validation is that of images it was "
            "learned from."
        ),
        "ways": (
            "Evaluations: mean over images, over those of 501 draws. Agreement: with the class of all 501 draws, equal "
            "weights. Accuracy: difference from it in points, with the 95 % interval over patients; within margin: the "
            f"whole interval is above -{margin:g} points. Sampled levels: 51 draws at most, more of them at levels "
            "where a draw's difference varies, noise mirrored where that helps."
        ),
    }
