r"""Draw how far the probabilities of the pneumonia bundle are to be trusted. Needs no network and no images.

    python -m tools.uncertainty_figure

Reads what ``benchmarks/uncertainty/quality.py`` wrote and the stored errors and predictions it read, and writes
``docs/images/uncertainty.png``: the probabilities of the vote against the frequencies on the test images, calibrated
elsewhere and on images of the same kind; accuracy against the share of images left out, beside the ResNet-18 and its
trainings as one ensemble; the coverage of prediction sets over random halves of the patients, one image of each. Curves
are means over the trainings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from benchmarks.bundles import BUNDLES, RESULTS, ROOT
from benchmarks.uncertainty.coverage import law_of_hits, split_of
from benchmarks.uncertainty.predictions import Predictions, of_errors, of_tables
from benchmarks.uncertainty.quality import calibrated, calibrated_by_halves
from monai_diffclf.metrics import accuracy_at_coverage
from monai_diffclf.storage import load_errors

EVALUATION = BUNDLES / "pneumonia_xray_diffusion" / "docs" / "evaluation"
BASELINE = BUNDLES / "pneumonia_xray_resnet18" / "docs" / "predictions"

BLUE, ORANGE, GREEN, PURPLE, INK, MUTED = "#0072b2", "#d55e00", "#007a5a", "#a0508a", "#1b1f23", "#6b7178"
RULE, CONFIDENCE, TEMPERATURE, NUM_BINS = "diffusion_vote", 0.9, 0.27, 8
STYLES: dict[str, tuple[str, str, Any]] = {
    "diffusion_vote": ("diffusion, vote", ORANGE, "-"),
    "diffusion_mean": ("diffusion, mean", BLUE, (0, (5, 1.5))),
    "resnet18": ("ResNet-18", INK, (0, (2, 1.2))),
    "resnet18_ensemble": ("ResNet-18, ensemble", PURPLE, (0, (1, 1, 4, 1))),
}
Array = np.ndarray[Any, Any]
Models = dict[str, dict[str, Predictions]]


def load_models(seeds: list[int]) -> Models:
    """Answers of all models to the validation and the test images, as the benchmark has them."""
    splits = ("validation", "test")
    stored = {s: [load_errors(EVALUATION / f"errors_{s}_seed_{seed}.npz") for seed in seeds] for s in splits}
    models = {
        f"diffusion_{rule}": {s: of_errors(stored[s], rule, "uniform", TEMPERATURE) for s in splits}
        for rule in ("vote", "mean")
    }
    models["resnet18"] = {s: of_tables([BASELINE / f"{s}_seed_{seed}.csv" for seed in seeds]) for s in splits}
    models["resnet18_ensemble"] = {s: each.ensemble() for s, each in models["resnet18"].items()}
    return models


def calibrate_on_halves(test: Predictions, splits: int, method: str) -> tuple[Array, Array]:
    """Labels and probabilities of all test images, each half calibrated by the other, for many random halves."""
    made = [calibrated_by_halves(test, seed, method)[0][:, 1] for seed in range(splits)]
    return np.tile(test.labels, splits), np.concatenate(made)


def draw_reliability(axis: Axes, sets: dict[str, Predictions], scores: dict[str, Any], splits: int) -> None:
    """Share of pneumonia against its probability: votes, calibrated elsewhere, and on images of the same kind."""
    validation, test = sets["validation"], sets["test"]
    pairs = list(zip(validation.probabilities, test.probabilities, strict=True))
    seeds = len(pairs)
    elsewhere = np.concatenate([calibrated(v, validation.labels, t, "beta")[:, 1] for v, t in pairs])
    curves = [
        (np.tile(test.labels, seeds), np.concatenate([t[:, 1] for _, t in pairs]), MUTED, "s"),
        (np.tile(test.labels, seeds), elsewhere, ORANGE, "^"),
        (*calibrate_on_halves(test, splits, "beta"), BLUE, "o"),
    ]
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    for labels, probabilities, colour, marker in curves:
        number = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
        bins = [number == b for b in range(NUM_BINS) if (number == b).sum() > 0.005 * len(number)]
        x = [probabilities[b].mean() for b in bins]
        y = [labels[b].mean() for b in bins]
        axis.plot(x, y, color=colour, marker=marker, linewidth=1.4, markersize=4.5)
    rows = [
        ("votes as they are", scores["none"]["ece_fitted_on_validation"], MUTED),
        ("fitted on validation", scores["beta"]["ece_fitted_on_validation"], ORANGE),
        ("fitted on half of test", scores["beta"]["ece_pooled_of_test"], BLUE),
    ]
    for place, (text, error, colour) in enumerate(rows):
        label = f"{text}: {error['value']:.2f}"
        axis.text(0.02, 0.92 - 0.075 * place, label, color=colour, va="top", weight="bold", transform=axis.transAxes)
    axis.text(0.02, 0.99, "calibration error (ECE)", color=MUTED, va="top", transform=axis.transAxes)
    axis.set(xlabel="probability of pneumonia", ylabel="share with pneumonia", xlim=(0, 1), ylim=(-0.01, 1.4))
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.set_title("Beta calibration does not travel", loc="left")


def draw_rejection(axis: Axes, models: Models, rejection: dict[str, Any]) -> None:
    """Accuracy of the rest against the share of images left out, mean of the seeds."""
    left_out = np.linspace(0, 0.4, 81)
    ends = []
    for name, (label, colour, style) in STYLES.items():
        if name not in models or f"{name}, probability" not in rejection:
            continue
        ranked = models[name]["test"].ranked("probability")
        curve = [np.mean([accuracy_at_coverage(*r.T, coverage=1 - share) for r in ranked]) for share in left_out]
        axis.plot(left_out, curve, color=colour, linestyle=style, linewidth=1.6)
        gain = rejection[f"{name}, probability"]["gain_without_20_percent"]["value"]
        ends.append((curve[40], f"{label}: {100 * gain:+.1f}", colour))
    axis.axvline(0.2, 0.17 + 0.085 * len(ends), color=MUTED, linewidth=0.8, zorder=0)
    axis.text(0.98, 0.04, "points gained at 20 %", color=MUTED, ha="right", transform=axis.transAxes)
    for place, (_, text, colour) in enumerate(sorted(ends)):
        axis.text(0.98, 0.13 + 0.085 * place, text, color=colour, ha="right", weight="bold", transform=axis.transAxes)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.set(xlabel="images left out, least sure first", ylabel="accuracy of the rest", xlim=(0, 0.4))
    axis.set_title("Leaving out the unsure pays", loc="left")


def coverages(test: Predictions, splits: int) -> Array:
    """Coverage of sets fitted to one image of each of half of the patients, on one of each other, for every split."""
    return np.array([split_of(test, seed, CONFIDENCE, per_class=False)["one_a_patient"] for seed in range(splits)])


def draw_coverage(axis: Axes, test: Predictions, entry: dict[str, Any], splits: int) -> None:
    """One dot a split over the exact law of the coverage, and the band that holds 95 % of it."""
    found = coverages(test, splits)
    fit, judged = entry["patients"] // 2, entry["patients"] - entry["patients"] // 2
    law = law_of_hits(fit, judged, CONFIDENCE)
    width = 2  # hits in a column of dots: a dot must not be narrower than it can be seen
    column = np.round(found * judged).astype(int) // width
    edges = np.arange(column.min() - 3, column.max() + 4)
    expected = splits * (law.cdf(edges * width + width - 1) - law.cdf(edges * width - 1))
    low, high = entry["band"]
    axis.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
    axis.plot((edges * width + (width - 1) / 2) / judged, expected, color=BLUE, linewidth=1.6)
    for value in np.unique(column):
        count = int((column == value).sum())
        x = (value * width + (width - 1) / 2) / judged
        axis.scatter([x] * count, np.arange(count) + 0.5, s=9, color=INK, linewidth=0, zorder=3)
    top = max(expected.max(), np.bincount(column - column.min()).max()) * 1.32
    inside = entry["splits_inside_95_percent_band"]
    axis.text(0.02, 0.98, "exact law and\nits 95 % band", color=BLUE, weight="bold", va="top", transform=axis.transAxes)
    axis.text(
        0.98,
        0.98,
        f"{inside} of {splits}\nsplits inside",
        color=INK,
        weight="bold",
        ha="right",
        va="top",
        transform=axis.transAxes,
    )
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.set(xlabel="patients whose set holds the class", ylabel="random halves of test", ylim=(0, top))
    axis.set_title(f"Prediction sets keep their {100 * CONFIDENCE:.0f} %", loc="left")


def draw(path: Path, results: dict[str, Any]) -> None:
    models, splits = load_models(results["seeds"]), int(results["splits"])
    plt.rcParams.update(
        {"font.size": 8.5, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.spines.top": False}
        | {"axes.spines.right": False, "axes.edgecolor": MUTED, "text.color": INK, "axes.labelcolor": INK}
    )
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2))
    draw_reliability(axes[0], models[RULE], results["calibration"][RULE], splits)
    draw_rejection(axes[1], models, results["rejection"])
    draw_coverage(axes[2], models[RULE]["test"], results["conformal"][RULE]["marginal"]["one_image_a_patient"], splits)
    figure.tight_layout(w_pad=1.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=180, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = RESULTS / "uncertainty_pneumonia_xray_diffusion.json"
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "uncertainty.png")
    args = parser.parse_args()
    draw(args.output, json.loads(args.results.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
