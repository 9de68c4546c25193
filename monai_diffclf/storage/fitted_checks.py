# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a file of what was fitted is for this model, and its numbers are ones that a fit could have given."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .errors_file import list_differences

__all__ = ["check_decision", "check_fitted_for", "check_uncertainty", "read_fitted"]

_LARGEST_FILE = 100_000_000


def read_fitted(path: str | os.PathLike[str], rule: str, written_by: str) -> dict[str, Any]:
    """The content of such a file, which must hold the rule.

    Args:
        path: the file.
        rule: rule of decision.
        written_by: function that writes such files, for the messages.

    Raises:
        ValueError: naming the file and what came.
    """
    path, what = Path(path), f"a file written by {written_by} with {rule!r}"
    if not path.exists():
        decision = " --decision" if written_by == "save_decision" else ""
        raise ValueError(f"path: expected {what}, but there is no {path}; fit it first: monai-diffclf fit{decision}")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError(f"path: expected {what}, got {path} of {path.stat().st_size} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"path: expected {what}, got {path}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get(rule), dict):
        found = f"a {type(content).__name__}"
        if isinstance(content, dict):
            found = f"one with {sorted(name for name, value in content.items() if isinstance(value, dict))}"
        raise ValueError(f"path: expected {what}, got {path}: {found}")
    return content


def check_fitted_for(
    path: str | os.PathLike[str], made_by: Mapping[str, Any], wanted: Mapping[str, Any] | None, remedy: str
) -> None:
    """Refuse what was fitted for another network, other draws or settings.

    Args:
        path: the file, for the messages.
        made_by: what the file says that made the probabilities of the fit.
        wanted: what is to have made them; None accepts any.
        remedy: what to do about a difference.

    Raises:
        ValueError: naming what differs, or that the file does not say.
    """
    if wanted is None:
        return
    if not made_by:
        raise ValueError(
            f"provenance: {path} does not say which network it was fitted for; fit anew, or load it without "
            "provenance if you know"
        )
    if differences := list_differences(wanted, made_by):
        raise ValueError(f"provenance: {path} was fitted for another model: {differences}; {remedy}")


def check_uncertainty(content: Mapping[str, Any], rule: str) -> None:
    """Refuse a calibration, prediction sets or a typicality with numbers out of their range or order.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """
    own = content[rule]
    _check_finite(own, rule)
    calibration, conformal = _part(own, "calibration", rule), _part(own, "conformal", rule)
    prior = _numbers(calibration, "prior", f"{rule}.calibration", lambda p: 0 < p < 1, "shares between 0 and 1")
    if not math.isclose(sum(prior), 1, abs_tol=1e-6):
        raise ValueError(f"{rule}.calibration.prior: expected shares that sum to 1, got {prior}")
    _check_parameters(calibration, f"{rule}.calibration", len(prior))
    _number(calibration, "num_images", f"{rule}.calibration", lambda n: n >= 1, "a number of images")
    _number(conformal, "confidence", f"{rule}.conformal", lambda c: 0 < c < 1, "a share between 0 and 1")
    scores = conformal.get("scores")
    if not isinstance(scores, list) or len(scores) != len(prior):
        raise ValueError(
            f"{rule}.conformal.scores: expected a list for each of {len(prior)} classes, got {_short(scores)}"
        )
    for k, _ in enumerate(scores):
        where = f"{rule}.conformal.scores"
        _numbers(scores, k, where, lambda score: 0 <= score <= 1, "sorted scores in [0, 1]", ascending=True)
    known = own.get("provenance") or {}
    if known.get("num_classes", len(prior)) != len(prior) or len(known.get("classes", prior)) != len(prior):
        raise ValueError(f"{rule}.provenance: expected {len(prior)} classes, as in the calibration, got another number")
    if content.get("typicality") is not None:
        _check_typicality(_part(content, "typicality", "file"), len(prior))


def check_decision(content: Mapping[str, Any], rule: str) -> None:
    """Refuse a model of the draws to come, or levels, with numbers out of their range or order.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """
    own = content[rule]
    _check_finite(own, rule)
    if not isinstance(own.get("network", ""), str):
        raise ValueError(f"{rule}.network: expected the hash of a network, got {_short(own['network'])}")
    model, sampling = _part(own, "model", rule), _part(own, "level_sampling", rule)
    weights = _part(own, "level_weights", rule)
    if rule == "vote":
        _number(model, "concentration", f"{rule}.model", lambda c: c > 0, "a positive number")
    else:
        _check_differences(model, f"{rule}.model")
    _numbers(sampling, "density", f"{rule}.level_sampling", lambda d: d > 0, "positive numbers")
    edges = _numbers(
        weights,
        "edges",
        f"{rule}.level_weights",
        lambda edge: abs(edge) < 1000,
        "sorted log-SNR",
        ascending=True,
        empty=True,
    )
    found = _numbers(weights, "weights", f"{rule}.level_weights", lambda w: w >= 0, "numbers of at least 0")
    if len(found) != len(edges) + 1 or not sum(found) > 0:
        raise ValueError(
            f"{rule}.level_weights.weights: expected {len(edges) + 1} numbers, one more than edges, not all 0, got "
            f"{_short(found)}"
        )
    if own.get("stopping") is not None:
        stopping = _part(own, "stopping", rule)
        for name in ("alpha", "risk"):
            _number(stopping, name, f"{rule}.stopping", lambda p: 0 < p < 1, "a probability between 0 and 1")
        _number(stopping, "spending", f"{rule}.stopping", lambda s: 0 <= s <= 1, "a number from 0 to 1")
    if own.get("few_draws") is not None:
        for draws in _part(own, "few_draws", rule):
            few = _part(own["few_draws"], draws, f"{rule}.few_draws")
            where = f"{rule}.few_draws.{draws}"
            if not draws.isdecimal() or int(draws) < 1:
                raise ValueError(f"{where}: expected a number of draws, got {_short(draws)}")
            _numbers(few, "log_snr", where, lambda level: abs(level) < 1000, "log-SNR values", length=int(draws))
            _number(few, "temperature", where, lambda t: t > 0, "a positive number")


def _check_parameters(calibration: Mapping[str, Any], where: str, classes: int) -> None:
    method, parameters = calibration.get("method"), _part(calibration, "parameters", where)
    where = f"{where}.parameters"
    if method == "temperature":
        _number(parameters, "temperature", where, lambda t: 0 < t < 1e6, "a positive number")
    elif method == "beta":
        for name in ("a", "b"):
            _numbers(parameters, name, where, lambda value: value >= 0, "numbers of at least 0", length=classes)
        _numbers(parameters, "c", where, lambda value: True, "numbers", length=classes)
    elif method == "isotonic":
        for name, fits, what in (
            ("x", lambda value: True, "sorted numbers"),
            ("y", lambda value: 0 < value <= 1, "sorted probabilities"),
        ):
            steps = parameters.get(name)
            if not isinstance(steps, list) or len(steps) != classes:
                raise ValueError(f"{where}.{name}: expected a list for each of {classes} classes, got {_short(steps)}")
            for k, _ in enumerate(steps):
                _numbers(steps, k, f"{where}.{name}", fits, what, ascending=True)
        if lengths := [
            k for k, (x, y) in enumerate(zip(parameters["x"], parameters["y"], strict=True)) if len(x) != len(y)
        ]:
            raise ValueError(f"{where}: expected as many x as y for each class, got others for {lengths}")
    else:
        raise ValueError(f"{where.rsplit('.', 1)[0]}.method: expected temperature, beta or isotonic, got {method!r}")


def _check_typicality(values: Mapping[str, Any], classes: int) -> None:
    where = "typicality"
    _check_finite(values, where)
    _numbers(values, "edges", where, lambda edge: abs(edge) < 1000, "sorted log-SNR", ascending=True, empty=True)
    _numbers(values, "log_snr", where, lambda value: abs(value) < 1000, "log-SNR values")
    _numbers(values, "scores", where, lambda score: score >= 0, "distances of at least 0")
    _numbers(values, "predicted", where, lambda k: k == int(k) and 0 <= k < classes, f"classes from 0 to {classes - 1}")
    if values.get("num_classes", classes) != classes:
        raise ValueError(
            f"{where}.num_classes: expected {classes}, as in the calibration, got {_short(values['num_classes'])}"
        )
    if values.get("parts") is None:  # of a file from before there were parts
        _check_symmetric(values, "precision", where)
        return
    parts = _part(values, "parts", where)
    for name in parts:
        within = f"{where}.parts.{name}"
        _check_symmetric(_part(parts, name, f"{where}.parts"), "precision", within)
        for number in ("median", "spread"):
            _number(parts[name], number, within, lambda value: value > 0, "a positive number")


def _check_differences(model: Mapping[str, Any], where: str) -> None:
    noise = _numbers(model, "noise", where, lambda value: value > 0, "variances above 0")
    edges = _numbers(model, "edges", where, lambda edge: abs(edge) < 1000, "sorted log-SNR", ascending=True, empty=True)
    if len(edges) != len(noise) - 1:
        raise ValueError(f"{where}.edges: expected {len(noise) - 1}, one fewer than noise, got {len(edges)}")
    _number(model, "degrees", where, lambda degrees: degrees >= 0, "degrees of freedom of at least 0")
    _check_symmetric(model, "covariance", where, side=len(noise))


def _check_symmetric(values: Mapping[str, Any], name: str, where: str, side: int | None = None) -> None:
    """A symmetric matrix without negative eigenvalues, up to rounding."""
    try:
        matrix = np.asarray(values.get(name), dtype=float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or side not in (None, len(matrix)):
        raise ValueError(
            f"{where}.{name}: expected a square matrix" + (f" of {side} rows" if side else "") + ", got another"
        )
    scale = float(np.abs(matrix).max(initial=0))
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9 * scale):
        raise ValueError(f"{where}.{name}: expected a symmetric matrix, got another")
    if len(matrix) and np.linalg.eigvalsh(matrix).min() < -1e-6 * scale:
        raise ValueError(f"{where}.{name}: expected a matrix without negative eigenvalues, got another")


def _part(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    part = values.get(name)
    if not isinstance(part, dict):
        raise ValueError(f"{where}.{name}: expected names with values, got {_short(part)}")
    return part


def _number(values: Mapping[str, Any], name: str, where: str, fits: Callable[[float], bool], what: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise ValueError(f"{where}.{name}: expected {what}, got {_short(value)}")
    return float(value)


def _numbers(
    values: Mapping[str, Any] | Sequence[Any],
    name: Any,
    where: str,
    fits: Callable[[float], bool],
    what: str,
    *,
    ascending: bool = False,
    empty: bool = False,
    length: int | None = None,
) -> list[float]:
    found = values.get(name) if isinstance(values, Mapping) else values[name]
    field = f"{where}.{name}" if isinstance(values, Mapping) else f"{where}[{name}]"
    if not isinstance(found, list) or (not found and not empty) or length not in (None, len(found)):
        raise ValueError(
            f"{field}: expected {what}" + (f", {length} of them" if length else "") + f", got {_short(found)}"
        )
    for place, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
            raise ValueError(f"{field}[{place}]: expected {what}, got {_short(value)}")
    if ascending and any(a > b for a, b in pairwise(found)):
        place = next(i for i, (a, b) in enumerate(pairwise(found), 1) if a > b)
        raise ValueError(f"{field}[{place}]: expected {what}, got {found[place]} after {found[place - 1]}")
    return found


def _check_finite(value: Any, where: str) -> None:
    """Refuse NaN and infinity, which Python's JSON reader lets through, anywhere inside."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(item, f"{where}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _check_finite(item, f"{where}[{place}]")


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
