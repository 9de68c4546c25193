# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From where on the first classifier of a cascade may answer, as validation images have said."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..uncertainty import Ensemble
from .atomic_file import replace_text
from .fitted_checks import check_fitted_for, read_fitted

__all__ = ["FittedCascade", "load_cascade", "save_cascade"]


@dataclass(frozen=True)
class FittedCascade:
    """What was fitted for two networks.

    Args:
        rule: rule of decision of the second classifier.
        threshold: largest probability of the first above which it answers.
        combine: what a deferred image's probabilities are made with; None for those of the second.
        first: hash of the first network.
        second: that of the second.
        provenance: the network, draws and settings that made the second's probabilities, as of `FittedUncertainty`;
            empty where unknown.
    """

    rule: str
    threshold: float
    combine: Ensemble | None = None
    first: str = ""
    second: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def save_cascade(
    path: str | os.PathLike[str], fitted: Mapping[str, FittedCascade], notes: Mapping[str, Any] | None = None
) -> None:
    """Write what was fitted to a JSON file, as a whole or not at all.

    Args:
        path: the file.
        fitted: rule of decision to what was fitted for it.
        notes: further values for the reader, e.g. the accuracies.
    """
    content: dict[str, Any] = dict(notes or {})
    for rule, own in fitted.items():
        combine = None if own.combine is None else own.combine.to_dict()
        networks = {"first": own.first, "second": own.second}
        content[rule] = {"threshold": own.threshold, "combine": combine, **networks, "provenance": dict(own.provenance)}
    replace_text(path, json.dumps(content, indent=1) + "\n")


def load_cascade(
    path: str | os.PathLike[str],
    rule: str,
    *,
    first: str | None = None,
    second: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> FittedCascade:
    """Read what `save_cascade` wrote for one rule.

    Args:
        path: the file.
        rule: rule of decision of the second classifier.
        first: hash of the network that the first must have; None accepts any.
        second: that of the second.
        provenance: what must have made the second's probabilities, as for
            :func:`monai_diffclf.storage.load_uncertainty`; None accepts any.

    Raises:
        ValueError: when the file does not exist, holds something else, or was fitted for other networks, draws or
            settings.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_cascade(folder + "/deferral.json", {"mean": FittedCascade("mean", 0.9)})
        ...     load_cascade(folder + "/deferral.json", "mean").threshold
        0.9
    """
    own = read_fitted(path, rule, "save_cascade")[rule]
    threshold, combine = own.get("threshold"), own.get("combine")
    try:
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise ValueError(f"{rule}.threshold: expected a probability from 0 to 1, got {threshold!r}")
        ensemble = None if combine is None else Ensemble.from_dict(combine)
        hashes, made_by = (str(own.get("first", "")), str(own.get("second", ""))), dict(own.get("provenance", {}))
        found = FittedCascade(rule, float(threshold), ensemble, *hashes, made_by)
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"path: expected a file written by save_cascade with {rule!r}, got {path}: {error}") from None
    for name, wanted, has in (("first", first, found.first), ("second", second, found.second)):
        if wanted is not None and wanted != has:
            raise ValueError(
                f"{name}: {path} was fitted for the network {has or '(not named)'}, not for {wanted}; fit it anew for "
                "these weights: monai-diffclf fit --cascade"
            )
    check_fitted_for(
        path,
        found.provenance,
        provenance,
        "fit anew for this one (monai-diffclf fit --cascade), or give the draws and settings it was fitted for",
    )
    return found
