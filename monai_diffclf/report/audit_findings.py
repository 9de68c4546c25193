# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a stored audit of the splits says to the reader of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .run_facts import Finding

__all__ = ["audit_findings"]

_TELLS = 0.7  # AUC from which a field other than the picture tells the label


def audit_findings(audit: Mapping[str, Any]) -> list[Finding]:
    """The findings of an audit (:func:`monai_diffclf.data.audit_splits`), the grave ones marked.

    Example:
        >>> found = audit_findings({"shared_patients": {"train and test": ["P1", "P2"]}, "splits": {}})
        >>> found[0].words, found[0].grave
        ('train and test: 2', True)
    """
    shared = {pair: len(patients) for pair, patients in audit.get("shared_patients", {}).items() if patients}
    images = {pair: count for pair, count in audit.get("shared_images", {}).items() if count}
    near = {pair: count for pair, count in audit.get("near_duplicates", {}).items() if count}
    across = {pair: count for pair, count in near.items() if len({*pair.split(" and ")}) == 2}
    unknown = {
        split: facts["images_without_patient"]
        for split, facts in audit.get("splits", {}).items()
        if facts.get("images_without_patient")
    }
    fields = {name: found["auc"] for name, found in audit.get("label_from_nuisance_fields", {}).items()}
    telling = {name: f"AUC {auc:.2f}" for name, auc in fields.items() if auc >= _TELLS}
    contradictions = len(audit.get("contradictions", []))
    findings = [
        Finding("Patients in two splits", _said(shared, "none"), bool(shared)),
        Finding("Identical images in two splits", _said(images, "none"), bool(images)),
        Finding("Nearly identical images in two splits", _said(across, "none"), bool(across)),
        Finding(
            "Nearly identical images within a split",
            _said({pair.split(" and ")[0]: count for pair, count in near.items() if pair not in across}, "none"),
        ),
        Finding("Identical images of different classes", str(contradictions or "none"), bool(contradictions)),
        Finding(
            "Label told without the picture",
            _said(telling, "by nothing that was tried" if fields else "not tried"),
            bool(telling),
        ),
    ]
    if unknown:
        words = f"{_said(unknown, '')} images: whether their patients are in two splits cannot be told"
        findings.append(Finding("Patient not known", words))
    if absent := audit.get("absent"):
        findings.append(Finding("Not audited", ", ".join(absent)))
    return findings


def _said(counts: Mapping[str, Any], otherwise: str) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or otherwise
