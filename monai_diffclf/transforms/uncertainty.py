# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Post-transforms that make calibrated probabilities and prediction sets of a classifier's output."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import CommonKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep

from ..classification.likelihood import Prior
from ..classification.vote_statistics import of_final_probabilities
from ..keys import OutputKeys
from ..storage.uncertainty_file import load_part
from ..uncertainty.calibration import Calibration
from ..uncertainty.conformal import ConformalSets

__all__ = [
    "CalibrateProbabilities",
    "CalibrateProbabilitiesD",
    "CalibrateProbabilitiesDict",
    "CalibrateProbabilitiesd",
    "ConformalSet",
    "ConformalSetD",
    "ConformalSetDict",
    "ConformalSetd",
]

_UNCALIBRATED = OutputKeys.PRED_UNCALIBRATED.value.removeprefix(CommonKeys.PRED.value)


class CalibrateProbabilities(Transform):
    """Calibrated class probabilities of one image.

    Args:
        calibration: a calibration, or the file that holds it, see :func:`monai_diffclf.storage.save_uncertainty`.
        rule: the inferer's rule, whose calibration is read from the file.
        prior: share of each class where the probabilities are used [K]; None for those of the fit.
        provenance: what the file must have been fitted for, see :func:`monai_diffclf.storage.load_uncertainty`.

    Raises:
        TypeError: when the calibration is of another type.
        ValueError: when the file cannot be read, is one of another model, or comes without a rule.

    Example:
        >>> calibrate = CalibrateProbabilities(Calibration("temperature", {"temperature": 2.0}, (0.5, 0.5), 100))
        >>> calibrate(torch.tensor([0.1, 0.9])).tolist()
        [0.25, 0.75]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(
        self,
        calibration: Calibration | str | os.PathLike[str],
        *,
        rule: str | None = None,
        prior: Prior | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.calibration = load_part("calibration", calibration, Calibration, rule, provenance)
        self.prior = prior

    def __call__(self, probabilities: NdarrayOrTensor) -> NdarrayOrTensor:
        """Calibrate the probabilities [K] of one image; type, device and dtype stay."""
        calibrated = self.calibration(_batch_of_one(probabilities), self.prior)[0]
        converted: NdarrayOrTensor = convert_to_dst_type(calibrated, probabilities)[0]
        return converted


class ConformalSet(Transform):
    """Prediction set of one image: the classes that it may have at the level of confidence.

    Args:
        conformal: what makes the sets, or the file that holds it, see :func:`monai_diffclf.storage.save_uncertainty`.
        rule: the inferer's rule, whose sets are read from the file.
        confidence: probability with which a set holds the true class; None for that of the fit.
        allow_empty: whether a set may be empty; else the most probable class is always in.
        provenance: what the file must have been fitted for, see :func:`monai_diffclf.storage.load_uncertainty`.

    Raises:
        TypeError: when ``conformal`` is of another type.
        ValueError: when the file cannot be read, is one of another model, or comes without a rule.

    Example:
        >>> predict = ConformalSet(ConformalSets(([0.1, 0.2, 0.6], [0.0, 0.3, 0.5]), confidence=0.75))
        >>> predict(torch.tensor([0.7, 0.3])).tolist()
        [True, False]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(
        self,
        conformal: ConformalSets | str | os.PathLike[str],
        *,
        rule: str | None = None,
        confidence: float | None = None,
        allow_empty: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.conformal = load_part("conformal", conformal, ConformalSets, rule, provenance)
        self.confidence, self.allow_empty = confidence, allow_empty

    def __call__(self, probabilities: NdarrayOrTensor) -> torch.Tensor:
        """Which classes the set holds [K], bool, from the probabilities [K] of one image as the inferer gives them."""
        batch = _batch_of_one(probabilities)
        return self.conformal.sets(batch, self.confidence, allow_empty=self.allow_empty)[0]


class CalibrateProbabilitiesd(MapTransform):
    """Dictionary form of `CalibrateProbabilities`.

    What the inferer gave stays under KEY + "_uncalibrated": `ConformalSetd` needs it, whichever of the two comes first.
    ``uncertainty`` always speaks of ``pred`` as it stands: with that, its ``probability_margin`` and
    ``probability_entropy`` are made anew.

    Args:
        keys: keys of the probabilities [K], e.g. ``"pred"``.
        calibration: see `CalibrateProbabilities`, as ``rule``, ``prior`` and ``provenance``.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> calibration = Calibration("temperature", {"temperature": 2.0}, (0.5, 0.5), 100)
        >>> data = CalibrateProbabilitiesd("pred", calibration)({"pred": torch.tensor([0.1, 0.9])})
        >>> {key: [round(float(p), 2) for p in values] for key, values in data.items()}
        {'pred': [0.25, 0.75], 'pred_uncalibrated': [0.1, 0.9]}
    """

    backend = CalibrateProbabilities.backend

    def __init__(
        self,
        keys: KeysCollection,
        calibration: Calibration | str | os.PathLike[str],
        *,
        rule: str | None = None,
        prior: Prior | None = None,
        provenance: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.calibrate = CalibrateProbabilities(calibration, rule=rule, prior=prior, provenance=provenance)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Calibrate the probabilities under the keys.

        Raises:
            ValueError: when they are calibrated already.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            raw = f"{key}{_UNCALIBRATED}"
            if raw in out:
                raise ValueError(
                    f"keys: expected probabilities as the inferer gives them under {key!r}, but {raw!r} "
                    "is there too, so they are calibrated already; calibrate once"
                )
            out[raw], out[key] = out[key], self.calibrate(out[key])
            if key == CommonKeys.PRED and isinstance(out.get(OutputKeys.UNCERTAINTY), Mapping):
                out[OutputKeys.UNCERTAINTY] = of_final_probabilities(
                    out[OutputKeys.UNCERTAINTY], _batch_of_one(out[key])[0]
                )
        return out


class ConformalSetd(MapTransform):
    """Dictionary form of `ConformalSet`; adds the sets and leaves the probabilities as they are.

    It may stand before or after `CalibrateProbabilitiesd`: the promise holds for the probabilities as the inferer gives
    them, and these are taken. After it, the class that the calibration makes the most probable is in, too.

    Args:
        keys: keys of the probabilities [K], e.g. ``"pred"``.
        conformal: see `ConformalSet`, as ``rule``, ``confidence``, ``allow_empty`` and ``provenance``.
        output_key: key of the set [K], bool; one for each of the keys.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> predict = ConformalSetd("pred", ConformalSets(([0.1, 0.2, 0.6], [0.0, 0.3, 0.5]), confidence=0.75))
        >>> predict({"pred": torch.tensor([0.7, 0.3])})["prediction_set"].tolist()
        [True, False]
    """

    backend = ConformalSet.backend

    def __init__(
        self,
        keys: KeysCollection,
        conformal: ConformalSets | str | os.PathLike[str],
        *,
        rule: str | None = None,
        output_key: KeysCollection = OutputKeys.PREDICTION_SET.value,
        confidence: float | None = None,
        allow_empty: bool = False,
        provenance: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple_rep(output_key, len(self.keys))
        if len(set(self.output_keys)) != len(self.keys):
            raise ValueError(f"output_key: expected another one for each of {list(self.keys)}, got {output_key!r}")
        self.predict = ConformalSet(
            conformal, rule=rule, confidence=confidence, allow_empty=allow_empty, provenance=provenance
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the prediction sets of the probabilities under the keys."""
        out = dict(data)
        for key, output_key in self.key_iterator(out, self.output_keys):
            chosen = self.predict(out.get(f"{key}{_UNCALIBRATED}", out[key]))
            if not self.predict.allow_empty:  # a calibration that bends may make another class the most probable
                chosen[torch.as_tensor(out[key]).argmax()] = True
            out[output_key] = chosen
        return out


def _batch_of_one(probabilities: NdarrayOrTensor) -> torch.Tensor:
    tensor: torch.Tensor = convert_to_tensor(probabilities)
    if tensor.ndim != 1:
        raise ValueError(
            f"probabilities: expected those of one image [K], got shape {list(tensor.shape)}; for a batch call "
            "the Calibration or ConformalSets.sets itself"
        )
    return tensor[None]


CalibrateProbabilitiesD = CalibrateProbabilitiesDict = CalibrateProbabilitiesd
ConformalSetD = ConformalSetDict = ConformalSetd
