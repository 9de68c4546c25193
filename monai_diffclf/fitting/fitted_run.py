# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the validation errors lie that a fit is made to, whose weights made them, and where the fit goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..networks.model_description import read_model_note

__all__ = ["Evaluated", "evaluated_bundle", "evaluated_run"]


@dataclass(frozen=True)
class Evaluated:
    """What is fitted to and where it goes.

    Args:
        folder: folder of the run, or of the bundle's documents.
        errors: the file of validation errors.
        uncertainty: where calibration, sets and typicality go.
        decision: where what was learned about draws goes.
        settings: what the bundle's configuration is to say of the weights.
    """

    folder: Path
    errors: Path
    uncertainty: Path
    decision: Path
    settings: Mapping[str, Any]

    @property
    def mirrored(self) -> Path:
        """The file of errors with mirrored noise."""
        return self.errors.with_name("errors_validation_mirrored.npz")


def evaluated_bundle(bundle: str | os.PathLike[str], seed: int = 0) -> Evaluated:
    """The weights that a bundle ships, and the errors that it publishes.

    Args:
        bundle: folder of the bundle.
        seed: seed of the training whose weights are shipped.
    """
    docs, configs = Path(bundle) / "docs", Path(bundle) / "configs"
    errors = docs / "evaluation" / f"errors_validation_seed_{seed}.npz"
    weights = {"checkpoint": str(Path(bundle).resolve() / "models" / "model.pt")}
    return Evaluated(docs, errors, configs / "uncertainty.json", configs / "decision.json", weights)


def evaluated_run(run: str | os.PathLike[str], *, shipped: str | os.PathLike[str] | None = None) -> Evaluated:
    """The weights of a training, with its classes and images of any size.

    Args:
        run: folder of the training, evaluated.
        shipped: weights that were evaluated in this folder where it holds none of its own.

    Raises:
        ValueError: when the folder holds no training, or its validation errors are absent.
    """
    folder = Path(run)
    note = read_model_note(folder / "model.pt") or (read_model_note(shipped) if shipped is not None else {})
    if not note or not ((folder / "model.json").is_file() or shipped is not None):
        raise ValueError(f"run: expected the folder of a training, which holds model.json, got {run}")
    weights = folder / "model.pt" if (folder / "model.json").is_file() else Path(shipped or "")
    seed = int((note.get("training") or {}).get("seed", 0))
    errors = folder / "evaluation" / f"errors_validation_seed_{seed}.npz"
    if not errors.is_file():
        raise ValueError(f"run: expected the validation errors {errors}, found none; run the evaluation")
    settings = {"checkpoint": str(weights), "classes": (note.get("model") or {})["classes"], "resize": True}
    return Evaluated(folder, errors, folder / "uncertainty.json", folder / "decision.json", settings)
