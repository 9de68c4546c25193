# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The file of results that an evaluation writes and nobody edits.

    {"about": {"schema": 1, ...},
     "test": {"resnet18": {"auc": {"value": 0.95, "low": 0.93, "high": 0.97}, ...,
                           "data": "...", "seed": [0, 1], "num_images": 624, "num_draws": null,
                           "network_evaluations": 1, "commit": "...",
                           "seeds": {"0": {the same for seed 0}, "1": {...}}}}}

What stands beside ``seeds`` is the summary over them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage.atomic_file import replace_text

Metrics = Mapping[str, Mapping[str, float]]

SCHEMA = 1
_ABOUT = {"schema": SCHEMA, "written_by": "monai_diffclf.handlers.write_results; do not edit"}
_BOUNDS = ("value", "low", "high")
_FACTS = ("data", "seed", "num_images", "num_draws", "network_evaluations", "commit", "seeds")
# Seeds may be averaged only if these agree: what was measured, and how.
_SETTINGS = ("data", "num_images", "num_draws")
_IMAGES = ("data_hash", "classes")  # where both have it


def write_results(
    path: str | os.PathLike[str],
    *,
    split: str,
    model: str,
    metrics: Metrics,
    data: str,
    seed: int,
    num_images: int,
    num_draws: int | None = None,
    network_evaluations: float | None = None,
    commit: str | None = None,
    extra: Mapping[str, Any] | None = None,
    summary: Metrics | None = None,
) -> dict[str, Any]:
    """Merge the metrics of one evaluation into a file of results; the rest of the file stays.

    Each seed's metrics are kept. The summary of several seeds is ``summary`` where given: metrics of all seeds' scores
    together, as :func:`monai_diffclf.metrics.classification_metrics` gives for a list of arrays. Without it, value and
    bounds are the means over the seeds; such bounds are cautious, since scores averaged over seeds vary less.
    Seeds that were measured on other data, other images or with other draws are dropped.

    Args:
        path: the JSON file, made if absent.
        split: ``"validation"``, ``"test"``, ...
        model: ``"resnet18"``, ``"diffusion_vote"``, ...
        metrics: for each name ``{"value", "low", "high"}``.
        data: which data set, in words.
        seed: seed of the training.
        num_images: images evaluated.
        num_draws: noise draws for each image, None for a model without.
        network_evaluations: forward passes of the network for each image, on average.
        commit: version of the code, see :func:`git_commit`.
        extra: further facts of this seed; those that agree over the seeds are in the summary too.
        summary: metrics over all seeds of this split and model, this one included.

    Returns:
        the content of the file.

    Raises:
        ValueError: if a metric lacks a bound or is not finite, a name is reserved, or the file holds something else.

    Example:
        >>> import tempfile
        >>> auc = {"auc": {"value": 0.95, "low": 0.93, "high": 0.97}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = write_results(
        ...         folder + "/results.json", split="test", model="resnet18", metrics=auc, data="PneumoniaMNIST",
        ...         seed=0, num_images=624,
        ...     )
        >>> results["test"]["resnet18"]["auc"]["value"]
        0.95
    """
    extra = dict(extra or {})
    entry: dict[str, Any] = {
        **_checked(metrics),
        "data": data,
        "seed": int(seed),
        "num_images": int(num_images),
        "num_draws": num_draws,
        "network_evaluations": network_evaluations,
        "commit": commit,
        **extra,
    }
    clash = ({*metrics} & {*extra, *_FACTS}) | ({*extra} & {*_FACTS})
    if clash or split == "about":
        raise ValueError(f"metrics, extra, split: expected names that are not reserved, got {sorted(clash) or split}.")
    results = read_results(path)
    seeds = results.get(split, {}).get(model, {}).get("seeds", {})
    seeds = {number: old for number, old in seeds.items() if comparable(old, entry)}
    seeds[str(int(seed))] = entry
    seeds = dict(sorted(seeds.items(), key=lambda item: int(item[0])))
    results = {"about": _ABOUT, **{name: models for name, models in results.items() if name != "about"}}
    results.setdefault(split, {})[model] = _summarise(seeds, entry, None if summary is None else _checked(summary))
    replace_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a file of results, empty if there is no such file.

    Raises:
        ValueError: if the file is something else.
    """
    if not Path(path).exists():
        return {}
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = results["about"]["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path: expected a file of results, but {path} is none ({error!r}); move it away.") from error
    if schema != SCHEMA:
        raise ValueError(f"path: expected results of schema {SCHEMA}, got {schema!r} in {path}; move it away.")
    return dict(results)


def git_commit(root: str | os.PathLike[str]) -> str:
    """The commit checked out in the folder ``root``, or ``"unknown"`` where there is no git or no commit.

    Example:
        >>> git_commit("/no/such/folder")
        'unknown'
    """
    command = ["git", "-C", os.fspath(root), "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _checked(metrics: Metrics) -> dict[str, dict[str, float]]:
    """The metrics as plain floats in a fixed order, after checking them."""
    for name, entry in metrics.items():
        if not isinstance(entry, Mapping) or set(entry) != set(_BOUNDS):
            raise ValueError(f"metrics: expected value, low and high for {name!r}, got {entry!r}.")
        if not all(math.isfinite(entry[bound]) for bound in _BOUNDS):
            raise ValueError(f"metrics: expected finite numbers for {name!r}, got {dict(entry)}.")
    if not metrics:
        raise ValueError("metrics: expected at least one metric, got none.")
    return {name: {bound: float(entry[bound]) for bound in _BOUNDS} for name, entry in metrics.items()}


def _metric_names(entry: Mapping[str, Any]) -> set[str]:
    return {name for name, value in entry.items() if isinstance(value, dict) and set(value) == set(_BOUNDS)}


def comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the entries of two seeds measure the same thing in the same way."""
    same = all(old.get(name) == new[name] for name in _SETTINGS)
    same &= all(old[name] == new[name] for name in _IMAGES if name in old and name in new)
    return same and _metric_names(old) == _metric_names(new)


def _summarise(seeds: Mapping[str, dict[str, Any]], newest: Mapping[str, Any], summary: Any) -> dict[str, Any]:
    """The summary entry of a model, with the entries of its seeds."""
    entries = list(seeds.values())
    names = [name for name in newest if name in _metric_names(newest)]

    def mean(name: str, bound: str) -> float:
        return math.fsum(e[name][bound] for e in entries) / len(entries)

    if summary is None:
        summary = {name: {bound: mean(name, bound) for bound in _BOUNDS} for name in names}
    elif set(summary) != set(names):
        raise ValueError(f"summary: expected the metrics {names}, got {sorted(summary)}.")
    facts = {
        name: value
        for name, value in newest.items()
        if name not in names and (name == "commit" or all(e.get(name) == value for e in entries))
    }
    if len(entries) > 1:
        evaluations = [e["network_evaluations"] for e in entries]
        known = None not in evaluations
        facts["network_evaluations"] = math.fsum(evaluations) / len(entries) if known else None
        facts["seed"] = [int(number) for number in seeds]
    return {**summary, **facts, "seeds": dict(seeds)}
