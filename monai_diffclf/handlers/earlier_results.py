# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Results of an earlier evaluation never stand beside new ones: what was made by something else is removed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._finding_files import finding_paths
from ..storage.atomic_file import replace_text
from ..storage.errors_journal import remove_journal_of_others
from ..storage.outputs import Outputs
from .results import read_results

__all__ = ["begin_evaluation", "remove_stale"]

logger = logging.getLogger(__name__)

_KIND = "evaluation"
# What is made of results, or to stand beside them, when an evaluation is done.
_ABOUT_RESULTS = ("report", "floor")
_FITTED = ("uncertainty.json", "decision.json", "deferral.json")


def begin_evaluation(
    folder: str | os.PathLike[str],
    files: Iterable[str | os.PathLike[str]],
    *,
    kind: str,
    split: str,
    seed: int,
    models: Sequence[str],
    results_path: str | os.PathLike[str] | None,
    facts: Mapping[str, Any],
    made_by: Mapping[str, Any],
) -> None:
    """Remove what earlier evaluations left that does not go with this one, and list what this one will write.

    Of this seed go: everything of other weights or classes; of this split what was measured on other images, or with
    other labels, and of validation what was fitted to it; of this kind what was made with other draws. What is left was
    made by the same, as of an evaluation that was stopped.

    Args:
        folder: folder of the tables.
        files: the files that will be written there.
        kind: what the evaluation stores, such as ``"errors"``.
        split: name of the split.
        seed: seed of the training.
        models: names of its classifiers in the results.
        results_path: file of the results, or None.
        facts: ``weights_hash``, ``data_hash`` and ``classes``, as far as known.
        made_by: all else that the files depend on.
    """
    now: dict[str, Any] = {
        "kind": kind,
        "split": split,
        "seed": int(seed),
        "weights": made_by.get("network", facts.get("weights_hash")),
        "classes": list(facts.get("classes") or []),
        "data": facts.get("data_hash"),
        "settings": dict(made_by),
        "models": list(models),
        "results": None if results_path is None else os.path.relpath(results_path, folder),
    }
    for outputs in Outputs.steps(folder):
        before = outputs.made_by
        if outputs.step.startswith(_KIND) and isinstance(before, Mapping) and _stale(before, now):
            _remove(outputs, before)
            if results_path is not None and _other_validation(before, now):
                _remove_fits(Path(results_path).parent)
    if results_path is not None:
        _drop_other_weights(Path(results_path), models, str(int(seed)), now["weights"])
        for step in _ABOUT_RESULTS:
            Outputs(Path(results_path).parent, step).remove()
    outputs = Outputs(folder, f"{_KIND} {kind} {split} seed {seed}")
    if before := outputs.made_by:
        # Other models of the same errors stay, as the errors do.
        now["models"] = list(dict.fromkeys([*before["models"], *models]))
        if now != before:
            outputs.note(now)
    else:
        outputs.begin(now)
    outputs.add(files)


def remove_stale(run: str | os.PathLike[str], weights: str) -> None:
    """Remove from a run's folder what is about other weights than those it has now.

    Results, fits, the report, and the records of evaluations that were stopped.

    Args:
        run: folder of the training, which has just written ``model.pt``.
        weights: hash of these weights.
    """
    folder = Path(run)
    for outputs in Outputs.steps(folder / _KIND):
        before = outputs.made_by
        if outputs.step.startswith(_KIND) and isinstance(before, Mapping) and before["weights"] not in (None, weights):
            _remove(outputs, before)
    Outputs(folder, "report").remove()
    for journal in list((folder / "journal").glob("*/journal.json")):
        remove_journal_of_others(journal.parent, weights)
        _rmdir_if_empty(folder / "journal")
    for path in _fits(folder):
        if _network_of(path) not in (None, weights):
            path.unlink()
    _rmdir_if_empty(folder / "findings")  # whose being there says that findings are calibrated


def _stale(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether what an earlier evaluation left does not go with one that begins."""
    if before["seed"] != now["seed"]:
        return False
    if before["weights"] != now["weights"] or before["classes"] != now["classes"]:
        return True
    if before["split"] == now["split"] and before["data"] != now["data"]:
        return True
    return bool(before["kind"] == now["kind"] and before["settings"] != now["settings"])


def _other_validation(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the validation images, or their labels, are others than those before."""
    known = None not in (before["data"], now["data"])
    return known and before["split"] == now["split"] == "validation" and before["data"] != now["data"]


def _remove(outputs: Outputs, before: Mapping[str, Any]) -> None:
    """Remove the files of an evaluation and its entries in the results."""
    if before["results"] is not None:
        path = Path(os.path.normpath(outputs.folder / before["results"]))
        _drop_entries(path, before["split"], before["models"], str(before["seed"]))
    # Of MONAI's MetricsSaver, which the bundles let write beside the folder of tables, and which replaces it.
    (outputs.folder.parent / before["split"] / "metrics.csv").unlink(missing_ok=True)
    outputs.remove()


def _remove_fits(run: Path) -> None:
    """Remove what was fitted to other validation images: it would pass for a fit to these."""
    fits = [path for path in _fits(run) if path.is_file()]
    for path in fits:
        path.unlink()
    _rmdir_if_empty(run / "findings")
    if fits:
        logger.warning("%s: removed what was fitted to other validation images or labels; fit again", run)


def _drop_other_weights(path: Path, models: Sequence[str], seed: str, weights: str | None) -> None:
    """Take from a file of results what these models' other weights gave under this seed, on whatever split."""
    for split, found in read_results(path).items():
        old = [
            model
            for model in models
            if split != "about"
            and (before := found.get(model, {}).get("seeds", {}).get(seed, {}).get("weights_hash")) is not None
            and before != weights
        ]
        if old:
            _drop_entries(path, split, old, seed)


def _drop_entries(path: Path, split: str, models: Sequence[str], seed: str) -> None:
    """Take what a seed's evaluation measured from a file of results; of several seeds the summary is no longer known.

    The others' entries stay; their summary is made again by the next evaluation.
    """
    results = read_results(path)
    found = results.get(split, {})
    for model in models:
        seeds = found.get(model, {}).get("seeds", {})
        if seed in seeds:
            del seeds[seed]
            if not seeds:
                del found[model]
            elif len(seeds) == 1:
                found[model] = {**next(iter(seeds.values())), "seeds": seeds}
    if split in results and not found:
        del results[split]
    if not results:
        return
    if {*results} == {"about"}:
        path.unlink()
    else:
        replace_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def _fits(run: Path) -> list[Path]:
    """The files of all that may have been fitted to a run's validation images."""
    return [*(run / name for name in _FITTED), *finding_paths(run / "findings")]


def _rmdir_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _network_of(path: Path) -> str | None:
    """The hash of the network that a fit is for; None where there is no file or it does not say."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    places = [content, *content.values()] if isinstance(content, Mapping) else []
    for place in places:
        for holder in (place, place.get("provenance")) if isinstance(place, Mapping) else ():
            if isinstance(holder, Mapping) and isinstance(holder.get("network"), str) and holder["network"]:
                return str(holder["network"])
    return None
