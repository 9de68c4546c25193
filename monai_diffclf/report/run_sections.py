# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The sections that a report has of a run: its results beside the floor, its data, its calibration and its training."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from ..classification import CurtailedVote, SequentialTest, replay
from ..metrics import class_set_coverage, expected_calibration_error, set_coverage, set_size
from .curves import classify, probabilities, quality_by_draws
from .data import ReportData
from .figures import to_svg
from .result_tables import class_table, compare_with_floor, confusion_tables, result_table
from .run_facts import RunFacts, TrainingCurve
from .run_figures import reliability_figure, training_figure, votes_figure

__all__ = [
    "LIMITS",
    "audit_table",
    "data_section",
    "plot",
    "result_section",
    "run_plots",
    "sets_section",
    "stopping_section",
    "training_plot",
]

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]

LIMITS = (
    "One training with one seed: another seed gives other numbers.",
    "The ranges hold for other images of the same source. Images of another machine, hospital or population may be "
    "classified much worse, without a sign of it.",
    "An image of none of the classes is given one of them all the same.",
)


def result_section(data: ReportData, metrics: Metrics) -> str:
    """All classifiers in one table, then class by class, then who was taken for whom."""
    return f"""<section>
<h2>Against simple classifiers, and class by class</h2>
<p><b>{escape(compare_with_floor(data, metrics))}</b></p>
{result_table(data, metrics)}
<p class="muted">The best of each column stands out. The floor has been trained on the same training images, shrunk.
Small: the range with 95 % confidence.</p>
{class_table(data)}
<h3>Which class was taken for which</h3>
<p class="muted">Each row holds the test images of a class; what is coloured off the diagonal was called wrongly.</p>
{confusion_tables(data)}
</section>"""


def data_section(run: RunFacts) -> str:
    """What the model was trained and tested on, and what the audit found."""
    classes = list(dict.fromkeys(name for counts in run.splits.values() for name in counts))
    heads = "".join(f"<th>{escape(split)}</th>" for split in run.splits)
    rows = [(escape(name), [f"{counts.get(name, 0):,}" for counts in run.splits.values()]) for name in classes]
    rows.append(("<b>images</b>", [f"<b>{sum(counts.values()):,}</b>" for counts in run.splits.values()]))
    known = [run.patients.get(split) for split in run.splits]
    rows.append(("patients", ["not known" if count is None else f"{count:,}" for count in known]))
    body = "".join(f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows)
    return f"""<section>
<h2>What was it trained and tested on?</h2>
<div class="scroll"><table class="numbers counts"><tr><th>Images</th>{heads}</tr>{body}</table></div>
{audit_table(run)}
</section>"""


def audit_table(run: RunFacts) -> str:
    """What the audit of the splits found; nothing where there was none."""
    if run.findings is None:
        return ""
    grave = sum(finding.grave for finding in run.findings)
    words = (
        "Some of this may make the results look better than they are; mind it before you believe the numbers above."
        if grave
        else "Nothing was found that makes the results look better than they are."
    )
    rows = "".join(
        f"<tr><th>{escape(finding.title)}</th><td{_marked(finding.grave)}>{escape(finding.words)}</td></tr>"
        for finding in run.findings
    )
    return f"<h3>What the audit of the splits found</h3><p>{words}</p><table>{rows}</table>"


def _marked(grave: bool) -> str:
    return ' class="wrong"' if grave else ""


def stopping_section(data: ReportData) -> str:
    """How many draws would have been enough."""
    if not bool(data.errors.evaluated.all()):
        return ""
    full = data.errors.num_draws * data.errors.num_classes
    rows = []
    tried: list[tuple[str, str, Any]] = [
        ("Vote, until the leader cannot be caught", "vote", CurtailedVote()),
        ("Vote, sequential test at 1 %", "vote", SequentialTest(0.01)),
        ("Mean, sequential test at 1 %", "mean", SequentialTest(0.01)),
    ]
    for name, rule, stopping in tried:
        if rule not in data.rules:
            continue
        stopped = replay(data.errors, stopping, rule=rule, weighting=data.weighting)
        everything = classify(data.errors, rule, data.weighting).predicted
        same = float((stopped.predicted == everything).double().mean())
        spent = float(stopped.network_evaluations.double().mean())
        rows.append(
            f"<tr><th>{name}</th><td>{spent:,.0f} of {full:,}</td><td>{100 * spent / full:.0f} %</td>"
            f"<td>{100 * same:.1f} %</td></tr>"
        )
    counts, quality = quality_by_draws(data)
    rule = next(iter(data.rules))
    values = quality["balanced_accuracy"][rule]
    enough = int(counts[np.flatnonzero(np.abs(values - values[-1]) > 0.01).max(initial=-1) + 1])
    words = (
        f"From {enough} of {data.errors.num_draws} draws on, balanced accuracy by {data.rules[rule].lower()} stays "
        "within 0.01 of that of all draws. What stopping image by image, when its class is clear, would have spent:"
    )
    return f"""<h3>How many draws would have been enough?</h3><p>{words}</p>
<div class="scroll"><table class="numbers"><tr><th>Stopping rule</th><th>Evaluations an image</th><th>Share</th>
<th>Same class</th></tr>{"".join(rows)}</table></div>"""


def run_plots(data: ReportData) -> list[str]:
    """Figures of votes, reliability and training."""
    plots = [
        plot(
            "How sure were right and wrong answers",
            to_svg(votes_figure(data), "How sure were right and wrong answers", data.anchor),
            "Images by the share of the draws that voted for the class that won. Wrong answers should gather on the "
            "left, where the votes are divided.",
        )
    ]
    for rule, name in data.rules.items():
        title = f"Can its probabilities be taken at their word: {name.lower()}"
        plots.append(
            plot(title, to_svg(reliability_figure(data, rule), title, data.anchor), _calibration_words(data, rule))
        )
    if data.run is not None and data.run.training is not None:
        plots.append(training_plot(data.run.training))
    return plots


def training_plot(training: TrainingCurve) -> str:
    """How the training went, as a figure."""
    words = "Loss on the training images, and the metric on the validation images that chose the weights."
    return plot("How the training went", to_svg(training_figure(training), "How the training went"), words)


def sets_section(data: ReportData) -> str:
    """How often prediction sets hold the truth, and how much they say."""
    run = data.run
    if run is None or not run.sets:
        return ""
    rows = []
    for rule, sets in run.sets.items():
        each = class_set_coverage(data.labels, sets)
        cells = [*(f"{100 * share:.1f} %" for share in (set_coverage(data.labels, sets), *each))]
        cells += [f"{float(set_size(sets)):.2f}", f"{100 * (np.sum(sets, 1) == 1).mean():.0f} %"]
        rows.append(f"<tr><th>{data.rules[rule]}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    classes = "".join(f"<th>of {escape(name)}</th>" for name in data.class_names)
    return f"""<h3>Prediction sets</h3>
<p>The classes that an image may be of: the set is to hold the true one for {100 * (run.confidence or 0):g} % of the
images of each class. The share of the test images whose set does, all of them and class by class:</p>
<div class="scroll"><table class="numbers"><tr><th></th><th>All</th>{classes}<th>Classes in a set</th>
<th>Sets of one</th></tr>{"".join(rows)}</table></div>"""


def _calibration_words(data: ReportData, rule: str) -> str:
    before = float(expected_calibration_error(data.labels, _normal(probabilities(data, rule))))
    words = (
        "On the diagonal, of images called with 80 % probability 80 % are right; larger dots stand for more images. "
    )
    if data.run is None or rule not in data.run.calibrated:
        return f"{words}Calibration error {before:.3f}; not calibrated."
    after = float(expected_calibration_error(data.labels, _normal(data.run.calibrated[rule])))
    return f"{words}Calibration error {before:.3f} before, {after:.3f} after. {data.run.calibration}"


def _normal(values: np.ndarray) -> np.ndarray:
    """Rows that add up to 1 to the last digit, which a table does not keep."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values / values.sum(1, keepdims=True))


def plot(title: str, svg: str, words: str) -> str:
    """A figure with its title and what it says in plain words."""
    return f'<figure class="plot"><h3>{escape(title)}</h3>{svg}<figcaption>{escape(words)}</figcaption></figure>'
