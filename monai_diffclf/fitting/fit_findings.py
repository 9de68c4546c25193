# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn how sure a classifier of several findings may be, and how to spend draws: each finding as two classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .._class_names import classes_of_finding
from .._finding_files import finding_file, finding_folder, finding_paths
from ..bundle import Bundle
from ..classification import DenoisingErrors, classify_errors, replay
from ..storage import StoredErrors
from ..storage.atomic_file import replaced
from .choose_calibration import NONE
from .fit_decision import DecisionFit, fit_decision
from .fit_uncertainty import UncertaintyFit, fit_uncertainty

__all__ = ["FindingsFit", "findings_errors", "fit_findings", "fit_findings_decision", "has_findings", "join_findings"]


@dataclass(frozen=True)
class FindingsFit:
    """What was fitted for each finding, and where it is.

    Args:
        folder: folder for a file of each finding, as :class:`monai_diffclf.transforms.CalibrateFindingsd` takes it.
        fits: name of each finding -> its fit.
    """

    folder: Path
    fits: Mapping[str, UncertaintyFit]

    def save(self) -> None:
        """Write ``finding_i.json`` of each: all of them, when all are written, or none."""
        with ExitStack() as files:
            for number, fit in enumerate(self.fits.values()):
                fit.save(files.enter_context(replaced(finding_file(self.folder, number))))

    def report(self, confidence: float) -> tuple[dict[str, Any], str]:
        """What a command puts out: values, and the same in words."""
        result: dict[str, Any] = {"path": str(self.folder), "findings": {}}
        lines = []
        for name, fit in self.fits.items():
            method = fit.methods["mean"]
            result["findings"][name] = {"methods": fit.methods, "remarks": list(fit.remarks), **fit.notes}
            how = "left as they are" if method == NONE else f"calibrated by {method}"
            lines += [f"{name}: probabilities are {how}, on {fit.notes['images']} validation images", *fit.remarks]
        lines.append(f"sets are to hold the truth about a finding in {100 * confidence:g} % of such images")
        return result, "\n".join([*lines, str(self.folder)])


def has_findings(run: str | os.PathLike[str]) -> bool:
    """Whether a run's evaluation is of several findings."""
    return finding_folder(Path(run) / "evaluation", 0).is_dir()


def findings_errors(run: str | os.PathLike[str]) -> list[Path]:
    """The files of validation errors of each finding of a run, in their order.

    Raises:
        ValueError: when there is not one for each.
    """
    folders = finding_paths(Path(run) / "evaluation")
    found = []
    for folder in folders:
        files = sorted(folder.glob("errors_validation_seed_*.npz"))
        if len(files) != 1:
            raise ValueError(f"run: expected the validation errors of one seed in {folder}, got {len(files)} files")
        found += files
    return found


def fit_findings(
    bundle: Bundle,
    run: str | os.PathLike[str],
    stored: Sequence[StoredErrors],
    *,
    confidence: float = 0.9,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> FindingsFit:
    """Fit calibration and prediction sets to the validation errors of each finding, for the rules mean and vote.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        run: folder of the evaluated run; the fit goes into its folder ``findings``, once it is saved.
        stored: what the files of `findings_errors` hold.
        confidence: probability with which a set is to hold the truth about a finding.
        method: of the calibration, see :func:`monai_diffclf.fitting.fit_uncertainty`.
        settings: see there.

    Raises:
        ValueError: when the errors are not those of the bundle's findings, or too few.
    """
    names = bundle.classes
    if len(stored) != len(names):
        raise ValueError(f"run: expected errors of the {len(names)} findings {names}, got {len(stored)} in {run}")
    fits = {}
    for number, (name, own) in enumerate(zip(names, stored, strict=True)):
        fits[name] = fit_uncertainty(
            bundle,
            own,
            source=finding_folder(Path(run) / "evaluation", number),
            classes=classes_of_finding(name),
            confidence=confidence,
            method=method,
            settings=settings,
        )
    return FindingsFit(Path(run) / "findings", fits)


def join_findings(stored: Sequence[StoredErrors]) -> StoredErrors:
    """The errors of all findings as those of images of two classes, in a row: one finding after the other.

    Those of an image, or of a patient where it is known, are of one patient, so that no fold and no risk is of a part
    of an image.

    Args:
        stored: errors of each finding, of the same draws.

    Raises:
        ValueError: when there are none.

    Example:
        >>> errors = DenoisingErrors(torch.rand(2, 2, 3), torch.arange(3), torch.zeros(3))
        >>> each = StoredErrors(errors, torch.tensor([0, 1]), ["a", "b"], ["", ""])
        >>> joined = join_findings([each, each])
        >>> joined.errors.values.shape, joined.patients
        (torch.Size([4, 2, 3]), ['a', 'b', 'a', 'b'])
    """
    if not stored:
        raise ValueError("stored: expected the errors of at least one finding, got none")
    return StoredErrors(
        DenoisingErrors.concatenate([each.errors for each in stored]),
        torch.cat([each.labels for each in stored]),
        [f"{number}: {key}" for number, each in enumerate(stored) for key in each.keys],
        [patient or key for each in stored for patient, key in zip(each.patients, each.keys, strict=True)],
        {name: value for name, value in stored[0].provenance.items() if name != "finding"},
    )


def fit_findings_decision(
    bundle: Bundle, run: str | os.PathLike[str], stored: Sequence[StoredErrors], *, risk: float = 0.01
) -> DecisionFit:
    """Learn how to spend draws from the validation errors of all findings together; each stops for itself.

    A draw is made for all findings at once, so that levels are chosen for all of them, and noise is not mirrored. The
    risk is the share of the findings of an image, in the mean, with another answer than by all draws; what it is for
    each finding, on these images, is in the notes.

    Args:
        bundle: as for `fit_findings`.
        run: folder of the evaluated run, for messages.
        stored: as for `fit_findings`.
        risk: see :func:`monai_diffclf.fitting.fit_decision`.

    Raises:
        ValueError: as :func:`monai_diffclf.fitting.fit_decision`.
    """
    learned = fit_decision(bundle, join_findings(stored), None, source=Path(run) / "evaluation", risk=risk)
    stopping, weighting = learned.learned["mean"].fitted, bundle.decision["weighting"]
    if stopping is None:
        return learned
    each = {}
    for name, own in zip(bundle.classes, stored, strict=True):
        full = classify_errors(own.errors, "mean", weighting=weighting).predicted
        stopped = replay(own.errors, stopping, rule="mean", weighting=weighting)
        each[name] = {
            "disagreement": float((stopped.predicted != full).double().mean()),
            "evaluations": float(stopped.network_evaluations.double().mean()),
        }
    return replace(learned, notes={**learned.notes, "findings": each})
