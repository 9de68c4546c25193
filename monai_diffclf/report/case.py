# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a report shows of one image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._moved import renamed_fields
from ..classification import SURE_WHEN_LARGE, DenoisingErrors
from ..keys import UncertaintyKeys, current_name
from .case_volume import CaseVolume

__all__ = [
    "UNCERTAINTIES",
    "Case",
    "CounterfactualPair",
    "NearImage",
    "UncertaintyName",
    "choose_measure",
    "unsureness",
]


@dataclass(frozen=True)
class UncertaintyName:
    """How a report calls a number that says how sure a classification is.

    Args:
        title: its name in words.
        words: what it says.
    """

    title: str
    words: str = ""


UNCERTAINTIES: dict[str, UncertaintyName] = {
    UncertaintyKeys.VOTE_ENTROPY: UncertaintyName(
        "Vote entropy", "0 when all draws agree, the logarithm of the number of classes when they split evenly"
    ),
    UncertaintyKeys.VOTE_VARIANCE: UncertaintyName("Vote variance", "p (1 - p) of the winner's share p of the votes"),
    UncertaintyKeys.VOTE_MARGIN: UncertaintyName(
        "Vote margin", "the winner's share of the votes less that of the runner-up"
    ),
    UncertaintyKeys.VOTE_SHARE_LOW: UncertaintyName("Vote share, low", "lower end of its 95 % interval"),
    UncertaintyKeys.VOTE_SHARE_HIGH: UncertaintyName("Vote share, high", "upper end of its 95 % interval"),
    UncertaintyKeys.ENTROPY_MONTE_CARLO: UncertaintyName("Entropy of few draws", "what more draws would settle"),
    UncertaintyKeys.ENTROPY_REMAINING: UncertaintyName("Entropy that remains", "what more draws would not settle"),
    UncertaintyKeys.PROBABILITY_MARGIN: UncertaintyName(
        "Probability margin", "the largest probability less the second"
    ),
    UncertaintyKeys.PROBABILITY_ENTROPY: UncertaintyName(
        "Probability entropy", "0 when one class is certain, the logarithm of the number of classes when all are alike"
    ),
    UncertaintyKeys.PROBE_VARIANCE: UncertaintyName(
        "Probe variance", "p (1 - p) of the share p of the probes that chose alike"
    ),
    UncertaintyKeys.PROBE_ENTROPY: UncertaintyName(
        "Probe entropy", "0 when all probes of the likelihood would choose one class"
    ),
    UncertaintyKeys.PROBE_MARGIN: UncertaintyName(
        "Probe margin", "share of the probes for one class less that for the next"
    ),
    UncertaintyKeys.PROBE_SHARE_LOW: UncertaintyName("Probe share, low", "lower end of its 95 % interval"),
    UncertaintyKeys.PROBE_SHARE_HIGH: UncertaintyName("Probe share, high", "upper end of its 95 % interval"),
    UncertaintyKeys.PROBE_ENTROPY_MONTE_CARLO: UncertaintyName(
        "Entropy of few probes", "what more probes would settle"
    ),
    UncertaintyKeys.PROBE_ENTROPY_REMAINING: UncertaintyName(
        "Probe entropy that remains", "what more probes would not settle"
    ),
    UncertaintyKeys.LOG_RATIO_ERROR: UncertaintyName(
        "Error of the log-ratio", "standard error over the probes, in nats, of the two most probable classes' log-ratio"
    ),
    "probability": UncertaintyName("1 - probability", "how far the called class's probability is from 1"),
}


@dataclass(frozen=True, kw_only=True)
class CounterfactualPair:
    """An image painted again as its own class and as another; both from the same noise.

    Args:
        factual: the image painted as its own class [C, H, W] in [-1, 1].
        counterfactual: the image painted as the class `target` [C, H, W] in [-1, 1].
        target: class it was painted as.
        flipped: whether our own classifier calls the counterfactual `target`, None where not tried.
        flipped_baseline: the same of another classifier.
        drift: how far the factual is from the image, mean absolute difference; None where not measured.
        warning: what to mind, in words.
    """

    factual: NDArray[Any]
    counterfactual: NDArray[Any]
    target: int
    flipped: bool | None = None
    flipped_baseline: bool | None = None
    drift: float | None = None
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class NearImage:
    """A training image that is near in a model's representation.

    Args:
        key: its name.
        label: its class.
        distance: how far it is, 0 for the same image.
        picture: the image [C, H, W] in [-1, 1], C = 1 or 3; None where it is not at hand.
        as_class: None where it is near the image as it is, else the class that the image was edited towards first.
    """

    key: str
    label: int
    distance: float
    picture: NDArray[Any] | None = None
    as_class: int | None = None


@renamed_fields(error_map="decision_map", evaluations="network_evaluations")
@dataclass(frozen=True, kw_only=True)
class Case:
    """One image, its class, how sure that is and why.

    Args:
        key: name of the image, another one for every case of a report.
        image: the image [C, H, W] in [-1, 1], C = 1 (grey) or 3 (colour); of a volume, one slice.
        probabilities: class probabilities [K]; the class with the largest one is the class called.
        uncalibrated: the probabilities before they were calibrated [K], if they were.
        vote_share: share of the draws won by each class [K].
        uncertainty: named numbers, see `UNCERTAINTIES`; others are shown under their own name, a large one meaning
            unsure.
        errors: the errors of this image alone [1, K, N], for the votes by noise level.
        label: true class, None where not known.
        decision_map: where the called class explains the image better (positive) than its rival (negative) [H, W], see
            :func:`monai_diffclf.explain.decision_map`. The report shows it as it is.
        rival: the class that the map compares with; with two classes it is the other one.
        counterfactual: the image as it would look in another class.
        nearest: training images that are near in the model's representation, as the image is and edited.
        prediction_set: classes of the conformal prediction set.
        ood_score: how unlike the model's own images it is; larger is less alike.
        ood_p_value: share of such images that are less alike still.
        network_evaluations: network evaluations spent.
        decided: whether the class has the guarantee of the stopping rule.
        volume: the volume of which `image` is a slice, shown in three planes in its place.
        note: what else to say, e.g. which slice of a volume this is.
        warnings: what to mind of the image, in words.
        finding: of several findings the one that this case asks about, absent or present; empty otherwise.
        of_image: name of the image, where several cases are of it.

    Raises:
        ValueError: when shapes do not fit, a number is not finite or a class is out of range.

    Example:
        >>> case = Case(key="film 1", image=np.zeros((1, 8, 8)), probabilities=np.array([0.2, 0.8]), label=1)
        >>> case.predicted, case.correct
        (1, True)
    """

    key: str
    image: NDArray[Any]
    probabilities: NDArray[Any]
    uncalibrated: NDArray[Any] | None = None
    vote_share: NDArray[Any] | None = None
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    errors: DenoisingErrors | None = None
    label: int | None = None
    decision_map: NDArray[Any] | None = None
    rival: int | None = None
    counterfactual: CounterfactualPair | None = None
    nearest: Sequence[NearImage] = ()
    prediction_set: Sequence[int] | None = None
    ood_score: float | None = None
    ood_p_value: float | None = None
    network_evaluations: int | None = None
    decided: bool | None = None
    volume: CaseVolume | None = None
    note: str = ""
    warnings: str = ""
    finding: str = ""
    of_image: str = ""

    def __post_init__(self) -> None:
        shape = np.shape(self.image)
        if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape:
            raise ValueError(f"image: expected shape [1 or 3, H, W] in case {self.key!r}, got {list(shape)}")
        if np.ndim(self.probabilities) != 1 or len(self.probabilities) < 2:
            raise ValueError(
                f"probabilities: expected one number a class [K] in case {self.key!r}, "
                f"got shape {list(np.shape(self.probabilities))}"
            )
        self._check_shapes(shape)
        for name in ("image", "probabilities", "uncalibrated", "vote_share", "decision_map"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise ValueError(f"{name}: expected finite numbers in case {self.key!r}, got NaN or infinity")
        target = None if self.counterfactual is None else self.counterfactual.target
        classes = {"label": self.label, "rival": self.rival, "target": target}
        given_classes = {name: [] if index is None else [index] for name, index in classes.items()}
        given_classes["prediction_set"] = list(self.prediction_set or [])
        given_classes["nearest"] = [k for near in self.nearest for k in (near.label, near.as_class) if k is not None]
        for name, given in given_classes.items():
            if any(not 0 <= index < self.num_classes for index in given):
                raise ValueError(f"{name}: expected 0 to {self.num_classes - 1} in case {self.key!r}, got {given}")

    def _check_shapes(self, shape: tuple[int, ...]) -> None:
        """Refuse arrays that do not fit the image or the number of classes."""
        expected: dict[str, tuple[int, ...]] = {
            "uncalibrated": (self.num_classes,),
            "vote_share": (self.num_classes,),
            "decision_map": shape[1:],
        }
        arrays = {name: getattr(self, name) for name in expected}
        if self.errors is not None:
            expected["errors"], arrays["errors"] = (1, self.num_classes, self.errors.num_draws), self.errors.values
        if self.counterfactual is not None:
            expected |= {"factual": shape, "counterfactual": shape}
            arrays |= {name: getattr(self.counterfactual, name) for name in ("factual", "counterfactual")}
        for name, value in arrays.items():
            if value is not None and tuple(np.shape(value)) != expected[name]:
                raise ValueError(
                    f"{name}: expected shape {list(expected[name])} in case {self.key!r}, got {list(np.shape(value))}"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.probabilities)

    @property
    def predicted(self) -> int:
        """The class called: the most probable one."""
        return int(np.argmax(self.probabilities))

    @property
    def correct(self) -> bool | None:
        """Whether the class called is the true one, None where that is not known."""
        return None if self.label is None else self.predicted == self.label


def unsureness(case: Case, name: str) -> float:
    """One uncertainty as a number that is larger the less sure the case is; 1 - probability where it has none.

    Example:
        >>> case = Case(key="a", image=np.zeros((1, 8, 8)), probabilities=np.array([0.25, 0.75]),
        ...             uncertainty={"probability_margin": 0.5})
        >>> unsureness(case, "probability_margin"), unsureness(case, "probability")
        (-0.5, 0.25)
    """
    name = current_name(name, case.uncertainty)
    if name not in case.uncertainty:
        return 1 - float(np.max(case.probabilities))
    sign = -1 if name in SURE_WHEN_LARGE else 1
    return sign * float(case.uncertainty[name])


def choose_measure(asked: str | None, known: Collection[str]) -> str:
    """The uncertainty that cases are ordered by.

    Args:
        asked: its name, an old one too; None for the entropy of the votes, or without votes of the probabilities.
        known: the names of the cases' uncertainties.

    Example:
        >>> choose_measure(None, ["probability_entropy", "vote_entropy"]), choose_measure(None, ["probability_entropy"])
        ('vote_entropy', 'probability_entropy')
    """
    if asked is not None:
        return current_name(asked, known)
    preferred = (UncertaintyKeys.VOTE_ENTROPY, UncertaintyKeys.PROBABILITY_ENTROPY)
    return next((name.value for name in preferred if name in known), "probability")
