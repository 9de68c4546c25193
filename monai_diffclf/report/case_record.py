# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A case as the page keeps it: a line of the overview, and all else as text that is read when the case is opened."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..classification import DenoisingErrors
from ..classification.rules import draw_scores
from .case import Case, CounterfactualPair, NearImage
from .case_pictures import film, signed_film, thumbnail
from .case_volume import encode_volume
from .figures import CLASS_COLOURS

__all__ = ["CaseRecord", "encode_case", "to_json"]

# Where the counterfactual is brighter and where it is darker than the image: no class's colours.
BRIGHTER, DARKER = "#e69f00", "#8e63ce"
_OTHERS = "#8a9199"  # a rival that is not known
_BANDS = 12  # of noise levels at most, with at least four draws each


@dataclass(frozen=True)
class CaseRecord:
    """A case, ready for the page.

    Args:
        key: name of the image.
        row: what the overview shows of it, and what it is sorted by.
        content: everything else, as JSON that is safe inside a script element.
        map_limit: the difference that has the full colour in its decision map, None without one.
    """

    key: str
    row: dict[str, Any]
    content: str
    map_limit: float | None


def to_json(value: Any) -> str:
    """JSON that is safe inside a script element, with six digits of every float; None for what is not finite.

    Example:
        >>> "<" in to_json({"key": "</script>"}), to_json([1 / 3, float("nan")])
        (False, '[0.333333,null]')
    """
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    # An image's name may look like the end of the script.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """Python's own types, floats rounded, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def encode_case(case: Case) -> CaseRecord:
    """Turn a case into what the page keeps of it.

    Example:
        >>> case = Case(key="a", image=np.zeros((1, 8, 8)), probabilities=np.array([0.2, 0.8]))
        >>> record = encode_case(case)
        >>> record.row["predicted"], json.loads(record.content)["probabilities"]
        (1, [0.2, 0.8])
    """
    painted, limit, volume = None, None, None
    if case.volume is not None:
        volume, limit = encode_volume(case.volume, _map_colours(case))
    elif case.decision_map is not None:
        painted, limit = signed_film(case.decision_map, _map_colours(case))
    row = {
        "key": case.key,
        "image": case.of_image or case.key,
        "finding": case.finding or None,
        "thumbnail": thumbnail(case.image),
        "predicted": case.predicted,
        "probability": float(case.probabilities[case.predicted]),
        "label": case.label,
        "uncertainty": {name: float(value) for name, value in case.uncertainty.items()},
        "set": None if case.prediction_set is None else [int(k) for k in case.prediction_set],
        "warned": bool(case.warnings),
        "ood": None if case.ood_p_value is None else float(case.ood_p_value),
    }
    content = {
        "image": film(case.image),
        "map": painted,
        "mapLimit": limit,
        "volume": volume,
        "rival": _rival(case),
        "counterfactual": None if case.counterfactual is None else _counterfactual(case.image, case.counterfactual),
        "nearest": [_near(near) for near in case.nearest],
        "probabilities": case.probabilities,
        "uncalibrated": case.uncalibrated,
        "voteShare": case.vote_share,
        "draws": None if case.errors is None else _draws(case.errors, case.predicted),
        "oodScore": case.ood_score,
        "networkEvaluations": case.network_evaluations,
        "decided": case.decided,
        "note": case.note,
        "warnings": case.warnings,
    }
    return CaseRecord(case.key, row, to_json(content), limit)


def _rival(case: Case) -> int | None:
    """The class that the decision map compares with, where known."""
    return 1 - case.predicted if case.rival is None and case.num_classes == 2 else case.rival


def _map_colours(case: Case) -> tuple[str, str]:
    """Colours of the class called and of its rival."""
    rival = _rival(case)
    others = _OTHERS if rival is None else CLASS_COLOURS[rival % len(CLASS_COLOURS)]
    return CLASS_COLOURS[case.predicted % len(CLASS_COLOURS)], others


def _counterfactual(image: NDArray[Any], pair: CounterfactualPair) -> dict[str, Any]:
    """Pictures and findings of a counterfactual, and how it differs from the image (mean over channels)."""
    difference = (np.asarray(pair.counterfactual, np.float64) - np.asarray(image, np.float64)).mean(0)
    painted, limit = signed_film(difference, (BRIGHTER, DARKER))
    return {
        "factual": film(pair.factual),
        "counterfactual": film(pair.counterfactual),
        "difference": painted,
        # Of the range of grey values from black to white.
        "differenceLimit": limit / 2,
        "target": int(pair.target),
        "flipped": pair.flipped,
        "flippedBaseline": pair.flipped_baseline,
        "drift": None if pair.drift is None else pair.drift / 2,
        "warning": pair.warning,
    }


def _near(near: NearImage) -> dict[str, Any]:
    return {
        "key": near.key,
        "label": int(near.label),
        "distance": float(near.distance),
        "picture": None if near.picture is None else film(near.picture),
        "asClass": near.as_class,
    }


def _draws(errors: DenoisingErrors, predicted: int) -> dict[str, Any] | None:
    """How each draw voted, by falling log SNR, and the votes in bands of noise levels.

    Returns:
        ``logSnr`` [N], ``winner`` [N] (class, -1 for a tie), ``advantage`` [N] (by which part of the mean error of all
        classes the class called beats the best other one), and ``bands``: the log SNR where each begins and ends, and
        the votes of each class in it. Draws that were not made are left out; None if none was.
    """
    values = errors.values[0].double().cpu()
    made = (~torch.isnan(values)).all(0)
    if not bool(made.any()):
        return None
    log_snr = errors.log_snr.double().cpu()[made]
    votes = torch.nan_to_num(draw_scores(errors[:1].to("cpu"), "vote")[0][:, made])
    order = torch.argsort(log_snr, descending=True, stable=True)
    values, votes, log_snr = values[:, made][:, order], votes[:, order], log_snr[order]
    rest = torch.cat([values[:predicted], values[predicted + 1 :]])
    advantage = (rest.min(0).values - values[predicted]) / values.mean(0).clamp(min=1e-12)
    winner = torch.where(votes.max(0).values > 0.999, votes.argmax(0), -1)
    return {
        "logSnr": log_snr.round(decimals=3),
        "winner": winner,
        "advantage": advantage.round(decimals=6),
        "bands": _bands(log_snr.numpy(), votes.numpy()),
    }


def _bands(log_snr: NDArray[np.float64], votes: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Bands of noise levels with about as many draws each; they meet halfway between neighbouring draws."""
    groups = np.array_split(np.arange(len(log_snr)), min(_BANDS, max(1, len(log_snr) // 4)))
    limits = [float(log_snr[0])]
    limits += [float(log_snr[group[0] - 1] + log_snr[group[0]]) / 2 for group in groups[1:]]
    limits.append(float(log_snr[-1]))
    return [{"from": limits[i], "to": limits[i + 1], "votes": votes[:, group].sum(1)} for i, group in enumerate(groups)]
