# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One name for everything that a classification puts out: in results, engines, transforms, handlers and files.

They stand beside MONAI's own `CommonKeys` (``image``, ``label``, ``pred``). What had another name before is still found
under it, with a `DeprecationWarning`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from monai.utils import StrEnum

__all__ = ["NamedValues", "OutputKeys", "UncertaintyKeys", "current_name", "warn_of_old_keys", "with_old_names"]

Value = TypeVar("Value")


class OutputKeys(StrEnum):
    """What a classifier and its post-transforms say of an image; shapes are those of one image.

    `VOTE_SHARE` [K] and `ERRORS` [K, N] are of a classifier by denoising errors; `PROBE_SHARE` [K], `LOG_LIKELIHOOD`
    [K] and `PROBE_LOG_LIKELIHOOD` [K, P] of one by likelihood. `UNCERTAINTY` is a dictionary of `UncertaintyKeys`.
    `ERROR_MAPS` [K, *spatial] are the errors of each pixel under each class, `DECISION_MAP` [1, *spatial] is their
    difference: how much better the predicted class explains a pixel than its rival. `RECORDED` says whether a journal
    had the image, `DEFERRED` whether the second classifier of a cascade was asked. `PRED_UNCALIBRATED` [K],
    `PREDICTION_SET` [K], `OOD_SCORE`, `OOD_P_VALUE` are from post-transforms, as is `WARNINGS`: text, what may be wrong
    with the image itself, "" if nothing.

    `MULTI_LABEL` says that an image has several findings: what is [K] of classes is then [L] of findings, `PRED` that
    each is present, uncertainties are [L], `ERRORS` [2 L, N], `ERROR_MAPS` [L, 2, *spatial], `PREDICTION_SET` [L, 2].
    """

    VOTE_SHARE = "vote_share"
    ERRORS = "errors"
    PROBE_SHARE = "probe_share"
    LOG_LIKELIHOOD = "log_likelihood"
    PROBE_LOG_LIKELIHOOD = "probe_log_likelihood"
    UNCERTAINTY = "uncertainty"
    NETWORK_EVALUATIONS = "network_evaluations"
    DECIDED = "decided"
    ERROR_MAPS = "error_maps"
    RECORDED = "recorded"
    DEFERRED = "deferred"
    PRED_UNCALIBRATED = "pred_uncalibrated"
    PREDICTION_SET = "prediction_set"
    OOD_SCORE = "ood_score"
    OOD_P_VALUE = "ood_p_value"
    DECISION_MAP = "decision_map"
    WARNINGS = "warnings"
    MULTI_LABEL = "multi_label"


class UncertaintyKeys(StrEnum):
    """Numbers that say how sure a class is.

    Those of the votes of draws are of a classifier by denoising errors, see
    :func:`monai_diffclf.classification.vote_uncertainty`; those of probes, the same of the votes of its probes, of one
    by likelihood, as `LOG_RATIO_ERROR`. Those of the probabilities are of both, see
    :func:`monai_diffclf.classification.probability_uncertainty`.
    """

    VOTE_VARIANCE = "vote_variance"
    VOTE_ENTROPY = "vote_entropy"
    VOTE_MARGIN = "vote_margin"
    VOTE_SHARE_LOW = "vote_share_low"
    VOTE_SHARE_HIGH = "vote_share_high"
    ENTROPY_MONTE_CARLO = "entropy_monte_carlo"
    ENTROPY_REMAINING = "entropy_remaining"
    PROBABILITY_MARGIN = "probability_margin"
    PROBABILITY_ENTROPY = "probability_entropy"
    PROBE_VARIANCE = "probe_variance"
    PROBE_ENTROPY = "probe_entropy"
    PROBE_MARGIN = "probe_margin"
    PROBE_SHARE_LOW = "probe_share_low"
    PROBE_SHARE_HIGH = "probe_share_high"
    PROBE_ENTROPY_MONTE_CARLO = "probe_entropy_monte_carlo"
    PROBE_ENTROPY_REMAINING = "probe_entropy_remaining"
    LOG_RATIO_ERROR = "log_ratio_error"


_OUTPUTS: dict[str, tuple[str, ...]] = {
    "votes": (OutputKeys.VOTE_SHARE, OutputKeys.PROBE_SHARE),
    "evaluations": (OutputKeys.NETWORK_EVALUATIONS,),
    "explanation": (OutputKeys.ERROR_MAPS,),
    "error_map": (OutputKeys.DECISION_MAP,),
}
# Likelihoods called the votes of their probes like those of draws.
_UNCERTAINTIES: dict[str, tuple[str, ...]] = {
    "margin": (UncertaintyKeys.VOTE_MARGIN, UncertaintyKeys.PROBABILITY_MARGIN),
    "entropy": (UncertaintyKeys.PROBABILITY_ENTROPY,),
    "vote_variance": (UncertaintyKeys.PROBE_VARIANCE,),
    "vote_entropy": (UncertaintyKeys.PROBE_ENTROPY,),
    "vote_share_low": (UncertaintyKeys.PROBE_SHARE_LOW,),
    "vote_share_high": (UncertaintyKeys.PROBE_SHARE_HIGH,),
    "entropy_monte_carlo": (UncertaintyKeys.PROBE_ENTROPY_MONTE_CARLO,),
    "entropy_remaining": (UncertaintyKeys.PROBE_ENTROPY_REMAINING,),
}
# Old name -> what it may have become; the first that is there is meant.
_RENAMED = _OUTPUTS | _UNCERTAINTIES


class NamedValues(dict[str, Value]):
    """A dictionary in which what was renamed is still found under its old name, with a warning.

    Old names are answered where they are asked for (``[]``, ``get``, ``in``) and show up nowhere else: not in the
    iteration, the length, a copy or the equality. Keys of an enum become plain text.

    Args:
        values: names and their values.

    Example:
        >>> import warnings
        >>> uncertainty = NamedValues({UncertaintyKeys.VOTE_MARGIN: 0.5})
        >>> uncertainty, list(uncertainty), "margin" in uncertainty
        ({'vote_margin': 0.5}, ['vote_margin'], True)
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     uncertainty["margin"], str(caught[0].message)
        (0.5, "'margin' is now 'vote_margin'")
    """

    def __init__(self, values: Mapping[Any, Value] | Iterable[tuple[Any, Value]] = ()) -> None:
        super().__init__({_plain(name): value for name, value in dict(values).items()})

    def __getitem__(self, name: str) -> Value:
        new = _successor(name, self)
        if new is not None:
            _warn(name, new)
        return super().__getitem__(name if new is None or super().__contains__(name) else new)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or _successor(name, self) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, new or old; ``default`` where there is none."""
        new = _successor(name, self)
        if new is not None:
            _warn(name, new)
        return super().get(name if new is None or super().__contains__(name) else new, default)


def with_old_names(outputs: Mapping[Any, Any]) -> NamedValues[Any]:
    """Outputs that are there under their old names too, for whoever copies or lists them; to ask by these warns.

    Args:
        outputs: values of `OutputKeys`.

    Example:
        >>> dict(with_old_names({OutputKeys.VOTE_SHARE: 0.5, OutputKeys.DECIDED: True}))
        {'vote_share': 0.5, 'decided': True, 'votes': 0.5}
    """
    named = NamedValues(outputs)
    named.update({old: outputs[new] for old in _OUTPUTS if (new := _successor(old, named))})
    return named


def current_name(name: str, known: Iterable[str]) -> str:
    """What is called ``name`` now: the name itself, or with a warning the new one, where only that is known.

    Args:
        name: a name, as a user or an old file gives it.
        known: the names that there are.

    Warns:
        DeprecationWarning: when the name is an old one.

    Example:
        >>> current_name("vote_margin", ["vote_margin"]), current_name("no such thing", ["vote_margin"])
        ('vote_margin', 'no such thing')
    """
    names = set(known)
    new = None if name in names else _successor(name, names)
    if new is None:
        return name
    _warn(name, new)
    return new


def warn_of_old_keys(transform: Any) -> None:
    """Warn of the old names of outputs among the ``keys`` of dictionary transforms, however nested.

    Args:
        transform: a post-transform, such as a `Compose` of MONAI's dictionary transforms.

    Warns:
        DeprecationWarning: for each old name.
    """
    for key in dict.fromkeys(_keys(transform)):
        if key in _OUTPUTS:
            _warn(key, _OUTPUTS[key][0])


def _keys(transform: Any) -> Iterable[str]:
    for part in getattr(transform, "transforms", ()):
        yield from _keys(part)
    keys = getattr(transform, "keys", ())
    yield from (_plain(key) for key in (keys if isinstance(keys, tuple) else ()))


def _plain(name: Any) -> Any:
    return name.value if isinstance(name, Enum) else name


def _successor(name: object, known: Iterable[str]) -> str | None:
    """The new name, among the known ones, of what had this name."""
    if not isinstance(name, str) or name not in _RENAMED:
        return None
    names = set(known)
    # Without probes "entropy" was no name, and may mean that of the votes as well.
    if name == "entropy" and UncertaintyKeys.PROBE_ENTROPY not in names:
        return None
    return next((_plain(new) for new in _RENAMED[name] if new in names), None)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{_plain(old)!r} is now {_plain(new)!r}", DeprecationWarning, stacklevel=3)
