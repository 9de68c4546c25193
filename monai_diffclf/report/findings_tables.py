# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The tables of a report of several findings: a row a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._patients import known_patient
from ..metrics import expected_calibration_error, roc_auc, set_coverage
from ..metrics.bootstrap import Interval, bootstrap_columns
from .curves import probabilities
from .data import ReportData
from .result_tables import Metrics, metric_cell

__all__ = ["count_images", "finding_anchor", "findings_table", "mean_auc", "splits_table"]

Findings = Mapping[str, ReportData]


def finding_anchor(number: int) -> str:
    """What the ids of a finding's part of the page begin with."""
    return f"finding-{number}-"


def count_images(findings: Findings) -> int:
    """Images of which any finding is known."""
    return len({key for data in findings.values() for key in _keys(data)})


def findings_table(findings: Findings, metrics: Mapping[str, Metrics], rule: str) -> str:
    """How well each finding is found by a rule, and how far its probabilities and sets can be trusted.

    Args:
        findings: name -> its report.
        metrics: name -> its metrics by rule.
        rule: the rule that the table is of.
    """
    total = count_images(findings)
    heads = ["Present", "Absent", "Not known", "AUC", "Sensitivity", "Specificity", "Threshold", "Calibration error"]
    with_sets = any(rule in data.run.sets for data in findings.values() if data.run is not None)
    heads += ["Sets hold it", "Sets of one"] if with_sets else []
    body = ""
    for number, (name, data) in enumerate(findings.items()):
        absent, present = np.bincount(data.labels, minlength=2).tolist()
        cells = [f"<td>{count:,}</td>" for count in (present, absent, total - absent - present)]
        cells += [metric_cell(metrics[name][rule][key]) for key in ("auc", "sensitivity", "specificity")]
        cells += [f"<td>{data.thresholds.get(rule, 0.5):.3g}</td>", _calibration(data, rule)]
        cells += _sets(data, rule) if with_sets else []
        body += f'<tr><th><a href="#{finding_anchor(number)}part">{escape(name)}</a></th>{"".join(cells)}</tr>'
    area = metric_cell(mean_auc(list(findings.values()), rule)._asdict())
    body += f"<tr><th><b>mean</b></th><td></td><td></td><td></td>{area}{'<td></td>' * (len(heads) - 4)}</tr>"
    row = "".join(f"<th>{head}</th>" for head in heads)
    return (
        f'<div class="scroll"><table class="numbers findings"><tr><th>Finding</th>{row}</tr>{body}</table></div>'
        '<p class="muted">Small: the range with 95 % confidence. The calibration error is that before and, where it '
        "was calibrated, after. Sets: the share that hold the truth, and that say one thing.</p>"
    )


def mean_auc(findings: Sequence[ReportData], rule: str, num_resamples: int = 1000) -> Interval:
    """The mean of the findings' AUC, with its interval: a resample draws images, or patients, with all their findings.

    Of a resample that holds no image with a finding, or none without, the mean is that of the others; where it can rank
    none of them, 0.5.

    Example:
        >>> import torch
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> values = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 1)[..., None]  # the first without, then with it
        >>> errors = DenoisingErrors(values, torch.arange(1), torch.zeros(1))
        >>> data = ReportData(title="", description="", images=None, labels=np.arange(8) % 2, errors=errors,
        ...                   class_names=["no nodule", "nodule"])
        >>> mean_auc([data, data], "vote", 10).value
        1.0
    """
    names = [_units(data) for data in findings]
    ends = np.cumsum([0, *map(len, names)])
    units = np.unique(np.concatenate(names), return_inverse=True)[1]
    scores = [probabilities(data, rule)[:, 1] for data in findings]

    def evaluate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        each = [
            _areas(np.asarray(data.labels), score, weights[:, ends[i] : ends[i + 1]])
            for i, (data, score) in enumerate(zip(findings, scores, strict=True))
        ]
        known = np.isfinite(each).sum(0)
        return np.asarray(np.where(known > 0, np.nansum(each, axis=0) / np.maximum(known, 1), 0.5)[:, None])

    (interval,) = bootstrap_columns(
        evaluate, int(ends[-1]), num_resamples=num_resamples, confidence=0.95, seed=0, strata=None, groups=units
    )
    return interval


def _areas(labels: NDArray[Any], scores: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUC of each resample [R], NaN where it lacks the finding, or its absence."""
    both = (weights[:, labels == 1].sum(1) > 0) & (weights[:, labels == 0].sum(1) > 0)
    areas = np.full(len(weights), np.nan)
    if both.any():
        areas[both] = roc_auc(labels, scores, weights=weights[both])
    return areas


def splits_table(findings: Findings) -> str:
    """How many images of each split have each finding, of those of which it is known."""
    runs = {name: data.run for name, data in findings.items() if data.run is not None}
    splits = list(dict.fromkeys(split for run in runs.values() for split in run.splits))
    heads = "".join(f"<th>{escape(split)}</th>" for split in splits)
    body = ""
    for name, run in runs.items():
        absent, present = findings[name].class_names
        cells = [run.splits.get(split) for split in splits]
        shown = ["-" if c is None else f"{c[present]:,} of {c[present] + c[absent]:,}" for c in cells]
        body += f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in shown)}</tr>"
    patients = next(iter(runs.values())).patients
    known = ["not known" if patients.get(split) is None else f"{patients[split]:,}" for split in splits]
    body += f"<tr><th>patients</th>{''.join(f'<td>{cell}</td>' for cell in known)}</tr>"
    return (
        '<div class="scroll"><table class="numbers counts"><tr><th>Images with the finding</th>'
        f"{heads}</tr>{body}</table></div>"
    )


def _keys(data: ReportData) -> list[str]:
    """Names of a finding's images; without names they are told apart by their places."""
    return [str(i) for i in range(len(data.labels))] if data.keys is None else list(data.keys)


def _units(data: ReportData) -> NDArray[np.str_]:
    """What a resample draws: the patient of each image, or the image."""
    keys = _keys(data)
    patients = [""] * len(keys) if data.groups is None else map(known_patient, data.groups)
    return np.asarray([patient or key for patient, key in zip(patients, keys, strict=True)])


def _calibration(data: ReportData, rule: str) -> str:
    run = data.run
    shown = [probabilities(data, rule)]
    shown += [] if run is None or rule not in run.calibrated else [np.asarray(run.calibrated[rule])]
    errors = [float(expected_calibration_error(data.labels, values / values.sum(1, keepdims=True))) for values in shown]
    return f"<td>{' → '.join(f'{error:.3f}' for error in errors)}</td>"


def _sets(data: ReportData, rule: str) -> list[str]:
    if data.run is None or rule not in data.run.sets:
        return ["<td>-</td>"] * 2
    sets = data.run.sets[rule]
    shares = (float(set_coverage(data.labels, sets)), float((np.sum(sets, 1) == 1).mean()))
    return [f"<td>{100 * share:.1f} %</td>" for share in shares]
