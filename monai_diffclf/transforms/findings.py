# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Post-transform that makes calibrated probabilities and prediction sets of several findings."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import CommonKeys

from .._class_names import classes_of_finding
from .._finding_files import finding_file
from ..classification.findings import check_prior
from ..classification.vote_statistics import probability_uncertainty
from ..keys import NamedValues, OutputKeys
from ..storage.uncertainty_file import load_uncertainty

__all__ = ["CalibrateFindingsD", "CalibrateFindingsDict", "CalibrateFindingsd"]


class CalibrateFindingsd(MapTransform):
    """Calibrate the probability of each finding by its own fit, and say which of absent and present it may be.

    Each finding is a question of two classes, with its own calibration and prediction sets, as ``monai-diffclf fit``
    makes them of its validation errors. What the inferer gave stays under KEY + "_uncalibrated"; the sets are
    ``prediction_set`` [L, 2], bool; ``probability_margin`` and ``probability_entropy`` are made anew. With a prior
    there are no sets: they hold what they promise where findings are as frequent as in validation.

    Args:
        keys: keys of the probabilities [L], e.g. ``"pred"``.
        folder: folder with ``finding_0.json``, ``finding_1.json``..., see
            :func:`monai_diffclf.storage.save_uncertainty`.
        num_findings: findings L.
        rule: the inferer's rule.
        prior: how often each finding is present where the probabilities are used [L]; None for that of the fit.
        provenance: what the files must have been fitted for, with the findings as its classes, see
            :func:`monai_diffclf.storage.load_uncertainty`.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ValueError: when a file is missing or of another model or finding, or the prior does not fit.
    """

    def __init__(
        self,
        keys: KeysCollection,
        folder: str | os.PathLike[str],
        *,
        num_findings: int,
        rule: str,
        prior: Sequence[float] | None = None,
        provenance: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prior = check_prior(prior, num_findings)
        self.fitted = [
            load_uncertainty(finding_file(folder, number), rule, provenance=_provenance_of(provenance, number))
            for number in range(num_findings)
        ]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Calibrate the probabilities under the keys.

        Raises:
            ValueError: when there are not as many as findings, or they are calibrated already.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            given = torch.as_tensor(out[key])
            if given.shape != (len(self.fitted),):
                raise ValueError(
                    f"{key}: expected a probability for each of {len(self.fitted)} findings, got {list(given.shape)}"
                )
            if f"{key}_uncalibrated" in out:
                raise ValueError(f"keys: expected what the inferer gives under {key!r}; it is calibrated already")
            both = torch.stack([1 - given, given], 1)
            calibrated, sets = [], []
            for number, fitted in enumerate(self.fitted):
                pair = both[number : number + 1]
                share = None if self.prior is None else float(self.prior[number])
                prior = None if share is None else (1 - share, share)
                calibrated.append(fitted.calibration(pair, prior)[0, 1])
                chosen = fitted.conformal.sets(pair)[0]
                chosen[int(calibrated[-1] > 0.5)] = True  # a calibration that bends may have turned the answer
                sets.append(chosen)
            out[f"{key}_uncalibrated"], out[key] = given, torch.stack(calibrated).to(given)
            if self.prior is None:
                out[OutputKeys.PREDICTION_SET.value] = torch.stack(sets)
            if key == CommonKeys.PRED and isinstance(out.get(OutputKeys.UNCERTAINTY), Mapping):
                anew = probability_uncertainty(torch.stack([1 - out[key], out[key]], 1).double())
                known = out[OutputKeys.UNCERTAINTY]
                out[OutputKeys.UNCERTAINTY.value] = NamedValues(
                    {**known, **{name: value for name, value in anew.items() if name in known}}
                )
        return out


def _provenance_of(provenance: Mapping[str, Any] | None, number: int) -> dict[str, Any] | None:
    """What a finding's file must have been fitted for: its classes are the finding's absence and presence."""
    if provenance is None:
        return None
    own = {**provenance, "finding": number}
    return own | {"classes": classes_of_finding(own["classes"][number])} if "classes" in own else own


CalibrateFindingsD = CalibrateFindingsDict = CalibrateFindingsd
