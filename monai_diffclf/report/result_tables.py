# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The tables of results: beside the floor, class by class, which class was taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from ..metrics import class_recall, roc_auc
from ..metrics.bootstrap import bootstrap_columns
from ..metrics.proportions import wilson_interval
from .curves import predicted, probabilities
from .data import ReportData

__all__ = ["class_table", "compare_with_floor", "confusion_tables", "metric_cell", "result_table"]

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
Measure = dict[str, float]

_SHOWN = {"auc": "AUC", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}
_OF_FLOOR = {"auc": "macro_auc", "accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy"}
_FLOOR_NAMES = {"logistic_regression": "Logistic regression", "extra_trees": "ExtraTrees"}
_FEW = 10  # images of a class, below which its numbers say little
_MOST_UPRIGHT = 4  # classes of short names, up to which the heads of a confusion matrix are not turned


def result_table(data: ReportData, metrics: Metrics) -> str:
    """Every rule, every further classifier and the floor, a row each; the best value of each column stands out."""
    rows: list[tuple[str, dict[str, Mapping[str, float]]]] = [
        (data.rules[rule], dict(metrics[rule])) for rule in data.rules
    ]
    run = data.run
    if run is not None:
        rows += [(name.replace("_", " "), dict(found)) for name, found in run.others.items()]
        for name, found in floor_rows(run.floor).items():
            rows.append((name, {key: {"value": found[own]} for key, own in _OF_FLOOR.items() if own in found}))
    best = {key: max(row[key]["value"] for _, row in rows if key in row) for key in _SHOWN}
    body = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(metric_cell(row.get(key), best[key]) for key in _SHOWN) + "</tr>"
        for name, row in rows
    )
    several = data.errors.num_classes > 2
    heads = "".join(f"<th>{'Macro ' if several and key == 'auc' else ''}{name}</th>" for key, name in _SHOWN.items())
    return f'<div class="scroll"><table class="numbers"><tr><th></th>{heads}</tr>{body}</table></div>'


def floor_rows(floor: Mapping[str, Any] | None) -> dict[str, Mapping[str, float]]:
    """The floor's classifiers by what the report calls them."""
    pixels = (floor or {}).get("pixels")
    size = f" on {pixels} x {pixels} pixels" if isinstance(pixels, int) else " on small pixels"
    return {name + size: floor[key] for key, name in _FLOOR_NAMES.items() if floor and key in floor}


def compare_with_floor(data: ReportData, metrics: Metrics) -> str:
    """Which is better, the diffusion classifier or classifiers on small pixels, in a plain sentence."""
    rows = floor_rows(None if data.run is None else data.run.floor)
    if not rows:
        return "How far simple classifiers on small pixels come was not measured for this run."
    name, found = max(rows.items(), key=lambda row: row[1]["macro_auc"])
    floor = found["macro_auc"]
    rule = max(data.rules, key=lambda rule: metrics[rule]["auc"]["value"])
    value, low, high = (metrics[rule]["auc"][key] for key in ("value", "low", "high"))
    numbers = f"AUC {value:.3f} ({low:.3f} to {high:.3f}) by {data.rules[rule].lower()}, {floor:.3f} of {name}"
    if floor < low:
        return f"The diffusion classifier is better than what pixels alone tell: {numbers}."
    if floor > high:
        return (
            f"The simple classifier is better: {numbers}. Use it, or train the diffusion classifier on more or better "
            "images, before you rely on this one."
        )
    return (
        f"The diffusion classifier is no better than a simple one as far as these images tell: {numbers}, within the "
        "range. What it offers beyond is its uncertainty and its maps."
    )


def metric_cell(metric: Mapping[str, float] | None, best: float | None = None) -> str:
    """The cell of a metric with its interval; bold where it is the best value; a dash where there is none."""
    if metric is None:
        return "<td>-</td>"
    text = f"{metric['value']:.3f}"
    text = f"<b>{text}</b>" if best is not None and round(metric["value"], 3) == round(best, 3) else text
    span = f"<small>{metric['low']:.3f} to {metric['high']:.3f}</small>" if "low" in metric else ""
    return f"<td>{text}{span}</td>"


def class_metrics(data: ReportData, rule: str, num_resamples: int = 1000) -> list[dict[str, Measure]]:
    """AUC, sensitivity and specificity of each class against the rest, with 95 % intervals.

    A share of exactly 0 or 1 has Wilson's interval, as every resample would give the same.
    """
    values, called = probabilities(data, rule), predicted(data, rule)
    classes = range(data.errors.num_classes)
    marks = [((data.labels == k).astype(np.int64), (called == k).astype(np.int64)) for k in classes]

    def evaluate(weights: NDArray[Any]) -> NDArray[Any]:
        columns: list[NDArray[Any]] = []
        for k, (truth, taken) in enumerate(marks):
            recall = class_recall(truth, taken, weights=weights)
            columns += [np.asarray(roc_auc(truth, values[:, k], weights=weights)), recall[:, 1], recall[:, 0]]
        return np.stack(columns, axis=1)

    options: dict[str, Any] = {"num_resamples": num_resamples, "confidence": 0.95, "seed": 0}
    intervals = bootstrap_columns(evaluate, len(called), strata=data.labels, groups=data.groups, **options)
    found = []
    for k, (truth, _) in enumerate(marks):
        row = {name: dict(intervals[3 * k + i]._asdict()) for i, name in enumerate(("auc", "hits", "clear"))}
        hits, clear = (len(np.unique(data.units[truth == mark])) for mark in (1, 0))
        for name, units in (("auc", min(hits, clear)), ("hits", hits), ("clear", clear)):
            row[name] |= wilson_interval(row[name]["value"], units) if row[name]["value"] in (0, 1) else {}
        found.append(row)
    return found


def class_table(data: ReportData) -> str:
    """AUC, sensitivity and specificity class by class, of every rule."""
    by_rule = {rule: class_metrics(data, rule) for rule in data.rules}
    names = {"auc": "AUC", "hits": "Sensitivity", "clear": "Specificity"}
    groups = "".join(f'<th colspan="{len(by_rule)}">{name}</th>' for name in names.values())
    heads = "".join(f"<th>{data.rules[rule]}</th>" for _ in names for rule in by_rule)
    counts = np.bincount(data.labels, minlength=data.errors.num_classes).tolist()
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{counts[k]:,}</td>"
        + "".join(metric_cell(by_rule[rule][k][key]) for key in names for rule in by_rule)
        + "</tr>"
        for k, name in enumerate(data.class_names)
    )
    few = [escape(name) for k, name in enumerate(data.class_names) if counts[k] < _FEW]
    warning = (
        f'<p class="muted">Fewer than {_FEW} images: {", ".join(few)}. What is said of these classes says little.</p>'
        if few
        else ""
    )
    return (
        f'<div class="scroll"><table class="numbers classes"><tr><th rowspan="2">Class</th><th rowspan="2">Images</th>'
        f"{groups}</tr><tr>{heads}</tr>{body}</table></div>{warning}"
    )


def confusion_tables(data: ReportData) -> str:
    """How many images of each class (rows) were taken for each class (columns), a table a rule."""
    tables = "".join(
        f'<figure class="matrix"><h3>{name}</h3>{_confusion(data, rule)}</figure>' for rule, name in data.rules.items()
    )
    return f'<div class="matrices">{tables}</div>'


def _confusion(data: ReportData, rule: str) -> str:
    counts = confusion_matrix(data.labels, predicted(data, rule), labels=range(data.errors.num_classes))
    # How strong each cell's colour is, in per cent.
    strength = (counts / counts.sum(1, keepdims=True) * np.where(np.eye(len(counts)), 60, 90)).round().astype(int)
    names = [escape(name) for name in data.class_names]
    turned = len(names) > _MOST_UPRIGHT or max(map(len, data.class_names)) > 12
    heads = "".join(f'<th title="{name}"><span>{name}</span></th>' for name in names)
    rows = ""
    for k, name in enumerate(names):
        cells = "".join(
            f'<td class="{"hit" if j == k else "miss"}" style="--share:{strength[k, j]}%" '
            f'title="{name} taken for {names[j]}: {counts[k, j]}">{counts[k, j] or "·"}</td>'
            for j in range(len(names))
        )
        rows += f"<tr><th>{name}</th>{cells}</tr>"
    kind = "confusion turned" if turned else "confusion"
    return (
        f'<div class="scroll"><table class="{kind}"><tr><th class="corner">true class ↓ &ensp; taken for →</th>{heads}'
        f"</tr>{rows}</table></div>"
    )
