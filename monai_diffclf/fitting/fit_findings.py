# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Learn how sure a classifier of several findings may be: finding by finding, as of two classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._class_names import classes_of_finding
from ..bundle import Bundle
from ..storage import load_errors
from .fit_uncertainty import NONE, UncertaintyFit, fit_uncertainty

__all__ = ["FindingsFit", "findings_errors", "fit_findings", "has_findings"]


@dataclass(frozen=True)
class FindingsFit:
    """What was fitted for each finding, and where it is.

    Args:
        folder: folder with a file for each finding, as :class:`monai_diffclf.transforms.CalibrateFindingsd` takes it.
        fits: name of each finding -> its fit.
    """

    folder: Path
    fits: Mapping[str, UncertaintyFit]

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
    return (Path(run) / "evaluation" / "finding_0").is_dir()


def findings_errors(run: str | os.PathLike[str]) -> list[Path]:
    """The files of validation errors of each finding of a run, in their order.

    Raises:
        ValueError: when there is not one for each.
    """
    folders = sorted(Path(run, "evaluation").glob("finding_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    found = []
    for folder in folders:
        files = sorted(folder.glob("errors_validation_seed_*.npz"))
        if len(files) != 1:
            raise ValueError(f"run: expected the validation errors of one seed in {folder}, got {len(files)} files")
        found += files
    return found


def fit_findings(
    bundle: Bundle, run: str | os.PathLike[str], *, confidence: float = 0.9, method: str | None = None
) -> FindingsFit:
    """Fit calibration and prediction sets to the validation errors of each finding, for the rules mean and vote.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        run: folder of the evaluated run; ``findings/finding_i.json`` are written there.
        confidence: probability with which a set is to hold the truth about a finding.
        method: of the calibration, see :func:`monai_diffclf.fitting.fit_uncertainty`.

    Raises:
        ValueError: when the errors are not those of the bundle's findings, or too few.
    """
    files, names = findings_errors(run), bundle.classes
    if len(files) != len(names):
        raise ValueError(f"run: expected errors of the {len(names)} findings {names}, got {len(files)} in {run}")
    fits = {}
    for name, path in zip(names, files, strict=True):
        fits[name] = fit_uncertainty(
            bundle,
            load_errors(path),
            source=path,
            classes=classes_of_finding(name),
            confidence=confidence,
            method=method,
        )
    folder = Path(run) / "findings"
    folder.mkdir(exist_ok=True)
    for number, fit in enumerate(fits.values()):
        fit.save(folder / f"finding_{number}.json")
    return FindingsFit(folder, fits)
