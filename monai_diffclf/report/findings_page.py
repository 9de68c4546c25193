# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One HTML file about a classifier of several findings: all of them in a table, then each as two classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

from .._patients import known_patient
from ..storage.atomic_file import replace_text
from .curves import metric_table
from .data import ReportData
from .findings_gallery import findings_gallery
from .findings_tables import count_images, finding_anchor, findings_table, splits_table
from .html import Metrics, background_section, document, fact_list, missing_list, report_sections
from .run_sections import audit_table, training_plot

__all__ = ["write_findings_report"]


def write_findings_report(
    path: str | os.PathLike[str],
    findings: Mapping[str, ReportData],
    *,
    title: str,
    description: str,
    rule: str = "mean",
) -> Path:
    """Write the report of several findings of the same images: one file, no scripts, nothing fetched.

    Args:
        path: where to; the folder is made if absent, an existing file is replaced once the new one is complete.
        findings: name of each finding -> the report of its absence and presence, of the images of which it is known.
        title: heading of the report.
        description: what was done, in a sentence or two.
        rule: the rule of decision that the table of all findings is of.

    Returns:
        the path written.

    Raises:
        ValueError: when there are no findings, one has not two classes, or one was not decided by the rule.
        OSError: when the file cannot be written.

    Example:
        >>> import tempfile, numpy as np, torch
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> errors = DenoisingErrors(torch.rand(8, 2, 5), torch.arange(5), torch.linspace(5, -5, 5), num_elements=64)
        >>> nodule = ReportData(title="Nodule", description="", images=None, labels=np.arange(8) % 2, errors=errors,
        ...                     class_names=["no nodule", "nodule"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_findings_report(
        ...         folder + "/report.html", {"nodule": nodule}, title="Noise", description="Random errors.")
        ...     "no nodule" in path.read_text(encoding="utf-8")
        True
    """
    if not findings:
        raise ValueError("findings: expected the report of at least one finding, got none")
    for name, data in findings.items():
        if len(data.class_names) != 2:
            raise ValueError(
                f"findings: expected two classes of {name!r}, absent and present, got {list(data.class_names)}"
            )
        if rule not in data.rules:
            raise ValueError(f"rule: expected one of {list(data.rules)}, by which {name!r} was decided, got {rule!r}")
    target = Path(path)
    replace_text(target, _page(findings, title, description, rule))
    return target


def _parts(findings: Mapping[str, ReportData]) -> dict[str, ReportData]:
    """The findings' reports, each with ids of its own, without what is said once for all of them."""
    parts = {}
    for number, (name, data) in enumerate(findings.items()):
        run = None if data.run is None else replace(data.run, training=None)
        parts[name] = replace(data, anchor=finding_anchor(number), run=run)
    return parts


def _page(findings: Mapping[str, ReportData], title: str, description: str, rule: str) -> str:
    metrics = {name: metric_table(data) for name, data in findings.items()}
    parts = "\n".join(_part(name, data, metrics[name]) for name, data in _parts(findings).items())
    first = next(iter(findings.values()))
    body = f"""{missing_list(_missing(findings))}
<section><h2>How well is each finding found?</h2>
<p>By {first.rules[rule].lower()}, which decides. Each finding is asked about by itself; images of which it is not known
do not count for it. Below, each has a part of its own, with both ways to decide.</p>
{findings_table(findings, metrics, rule)}</section>
{findings_gallery(findings, rule)}
{parts}
{_data(findings)}
{background_section(_background(findings), of_run=first.run is not None)}"""
    return document(title, description, fact_list(_facts(findings)), body)


def _part(name: str, data: ReportData, metrics: Metrics) -> str:
    """A finding's part of the page."""
    anchor = f"{data.anchor}part"
    return f'<div class="part" id="{anchor}"><h1>{escape(name)}</h1>\n{report_sections(data, metrics)}</div>'


def _facts(findings: Mapping[str, ReportData]) -> dict[str, str]:
    first = next(iter(findings.values()))
    facts = {
        "Images": f"{count_images(findings):,}",
        "Findings": f"{len(findings)}",
        "Noise draws per image": f"{first.errors.num_draws}",
    }
    groups = [data.groups for data in findings.values() if data.groups is not None]
    patients = {known_patient(patient) for each in groups for patient in each}
    if len(groups) == len(findings) and "" not in patients:
        facts["Patients"] = f"{len(patients):,}"
    return facts


def _missing(findings: Mapping[str, ReportData]) -> list[str]:
    """What the report does without: said once where it is of all findings."""
    said = {name: list(data.run.missing) if data.run is not None else [] for name, data in findings.items()}
    common = [text for text in next(iter(said.values())) if all(text in texts for texts in said.values())]
    own = [f"{name}: {text}" for name, texts in said.items() for text in texts if text not in common]
    return common + own


def _data(findings: Mapping[str, ReportData]) -> str:
    """What the model was trained and tested on, and how the training went."""
    first = next(iter(findings.values())).run
    if first is None:
        return ""
    return f"""<section>
<h2>What was it trained and tested on?</h2>
{splits_table(findings)}
{audit_table(first)}
{f'<div class="plots">{training_plot(first.training)}</div>' if first.training is not None else ""}
</section>"""


def _background(findings: Mapping[str, ReportData]) -> dict[str, str]:
    """Cost, data and model, name -> value."""
    first = next(iter(findings.values()))
    evaluations = sum(int(data.errors.network_evaluations.sum()) for data in findings.values())
    rows = {
        "Network evaluations": f"{evaluations:,}, or {evaluations / count_images(findings):,.0f} per image",
        "Weighting of the mean error": first.weighting if isinstance(first.weighting, str) else "learned",
        "Images": first.data_note,
    }
    return rows | ({} if first.run is None else dict(first.run.settings))
