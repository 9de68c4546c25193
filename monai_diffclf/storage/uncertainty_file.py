# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a bundle has learned from its validation images about how sure it may be."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..uncertainty.calibration import Calibration
from ..uncertainty.conformal import ConformalSets
from ..uncertainty.typicality import Typicality
from .atomic_file import replace_text
from .fitted_checks import check_fitted_for, check_uncertainty, read_fitted

__all__ = ["FittedUncertainty", "load_uncertainty", "save_uncertainty"]

Part = TypeVar("Part", Calibration, ConformalSets, Typicality)


@dataclass(frozen=True)
class FittedUncertainty:
    """What was fitted on validation images for one rule of decision.

    Args:
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``.
        calibration: calibrates the probabilities.
        conformal: makes prediction sets of them.
        typicality: tells images of another kind by their errors, so the same for all rules; None where not fitted.
        provenance: the network, draws and settings that made the probabilities, see
            :func:`monai_diffclf.inferers.provenance`; empty where unknown.
    """

    rule: str
    calibration: Calibration
    conformal: ConformalSets
    typicality: Typicality | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def save_uncertainty(
    path: str | os.PathLike[str], fitted: Mapping[str, FittedUncertainty], *, notes: Mapping[str, Any] | None = None
) -> None:
    """Write what was fitted to a JSON file, as a whole or not at all.

    Args:
        path: the file.
        fitted: rule of decision to what was fitted for it.
        notes: further values for the reader, e.g. how the method was chosen.

    Raises:
        ValueError: when something was fitted for another rule than it is stored under, or the rules' typicalities
            differ.
    """
    content: dict[str, Any] = dict(notes or {})
    typicalities = [None if parts.typicality is None else parts.typicality.to_dict() for parts in fitted.values()]
    if any(other != typicalities[0] for other in typicalities):
        raise ValueError("fitted: expected one typicality for all rules, as they share their errors; got several")
    content["typicality"] = typicalities[0] if typicalities else None
    for rule, parts in fitted.items():
        if parts.rule != rule:
            raise ValueError(f"fitted: expected what was fitted for {rule!r} under this name, got {parts.rule!r}")
        content[rule] = {
            "provenance": dict(parts.provenance),
            "calibration": parts.calibration.to_dict(),
            "conformal": parts.conformal.to_dict(),
        }
    replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def load_uncertainty(
    path: str | os.PathLike[str], rule: str, *, provenance: Mapping[str, Any] | None = None
) -> FittedUncertainty:
    """Read what `save_uncertainty` wrote for one rule.

    Args:
        path: the file.
        rule: ``"vote"``, ``"mean"`` or ``"weighted_vote"``.
        provenance: what must have made the probabilities of the fit, some or all of what
            :func:`monai_diffclf.inferers.provenance` gives, and ``weighting`` and ``temperature``; None accepts any.

    Raises:
        ValueError: when the file does not exist, is no such file, lacks the rule, holds numbers that no fit gives, or
            was fitted for another model.

    Example:
        >>> import tempfile
        >>> calibration = Calibration("temperature", {"temperature": 2.0}, (0.5, 0.5), 100)
        >>> fitted = FittedUncertainty("mean", calibration, ConformalSets(([0.1] * 9, [0.2] * 9)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_uncertainty(folder + "/uncertainty.json", {"mean": fitted})
        ...     load_uncertainty(folder + "/uncertainty.json", "mean").calibration == calibration
        True
    """
    fitted = _read(path, rule)
    remedy = "fit anew for this one, or leave calibration and the like out (--calibrated False)"
    check_fitted_for(path, fitted.provenance, provenance, remedy)
    return fitted


def load_part(
    name: str, given: Any, kind: type[Part], rule: str | None, provenance: Mapping[str, Any] | None = None
) -> Part:
    """A fitted object itself, or the one of its name in an uncertainty file.

    Args:
        name: field of `FittedUncertainty`: "calibration", "conformal" or "typicality".
        given: the object, or the path of a file.
        kind: its type.
        rule: the inferer's rule, to read a file; not needed otherwise.
        provenance: as for :func:`load_uncertainty`.

    Raises:
        TypeError: when it is neither.
        ValueError: when there is no rule to read a file for, or the file lacks it or is one of another model.
    """
    if isinstance(given, kind):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(
            f"{name}: expected {kind.__name__} or the path of a file of save_uncertainty, got {type(given).__name__}"
        )
    if rule is None:
        raise ValueError(f"rule: expected the inferer's rule, 'vote' or 'mean', to read {given} for; got None")
    part: Part | None = getattr(load_uncertainty(given, rule, provenance=provenance), name)
    if part is None:
        raise ValueError(f"{name}: expected a file that holds one, got {given} without; fit it and save it again")
    return part


def _read(path: str | os.PathLike[str], rule: str) -> FittedUncertainty:
    everything = read_fitted(path, rule, "save_uncertainty")
    try:
        check_uncertainty(everything, rule)
        content, typicality = everything[rule], everything.get("typicality")
        return FittedUncertainty(
            rule,
            Calibration.from_dict(content["calibration"]),
            ConformalSets.from_dict(content["conformal"]),
            # Files of earlier versions say of how many classes the calibration is, and not the typicality.
            None
            if typicality is None
            else Typicality.from_dict({"num_classes": len(content["calibration"]["prior"]), **typicality}),
            dict(content.get("provenance", {})),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"path: expected a file written by save_uncertainty with {rule!r}, got {path}: {error}"
        ) from None
