# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Make the figures of a run a bundle's own: tables, errors and results go from the run's folder to its ``docs``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .._class_names import classes_of_finding
from .._finding_files import finding_folder
from ..networks.model_description import read_model_note
from ..storage.atomic_file import replaced
from ..storage.folder_lock import FolderLock
from .evaluation_saver import EvaluationSaver, read_predictions
from .results import comparable, read_results

__all__ = ["FACTS", "NOT_OF_PROBABILITIES", "RECORDED", "entries", "publish", "table_of"]

RECORDED = ("data", "seed", "threshold", "num_draws", "network_evaluations", "commit")
NOT_OF_PROBABILITIES = ("bits_per_dimension",)
FACTS = ("weights", "weights_hash", "data_hash", "classes", "weighting", "temperature", "representation")


def entries(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Split, model and what is recorded of it, for each seed; last one evaluated by the summary's commit."""
    for split, models in results.items():
        for model, summary in models.items() if split != "about" else ():
            seeds = sorted(summary["seeds"].values(), key=lambda seed: seed["commit"] == summary["commit"])
            yield from ((split, model, seed) for seed in seeds)


def table_of(docs: Path, split: str, model: str, seed: int, findings: Sequence[str] = ()) -> Path:
    """The table of predictions; a bundle of one model leaves its name out, of several findings each has a folder.

    Args:
        docs: the bundle's ``docs``, or the folder of a run.
        split: name of the split.
        model: name of the model; of one of several findings followed by a comma and the finding's name.
        seed: seed of the training.
        findings: names of the findings, where the results are of several.

    Raises:
        ValueError: when there is none.
    """
    plain, _, finding = model.partition(", ")
    names = [f"{split}_{plain}_seed_{seed}.csv", f"{split}_seed_{seed}.csv"]
    if finding in findings:
        names = [f"{finding_folder('', list(findings).index(finding))}/{names[0]}"]
    if not (found := [path for name in names for path in docs.glob(f"*/{name}")]):
        raise ValueError(f"bundle: expected {names[0]} or {names[1]} in a folder of {docs}; evaluate again.")
    return found[0]


def _check(docs: Path, found: list[tuple[str, str, dict[str, Any]]], replace: bool) -> None:
    """Refuse to put results in place of others that measured something else."""
    before = read_results(docs / "results.json")
    for split, model, entry in found:
        seeds = before.get(split, {}).get(model, {}).get("seeds", {})
        others = {number: old for number, old in seeds.items() if not comparable(old, entry)}
        if others and not replace:
            old = next(iter(others.values()))
            raise ValueError(
                f"run: its {split} results of {model} are of {_measured(entry)}, those of seed {', '.join(others)} in "
                f"{docs / 'results.json'} of {_measured(old)}; give --replace to drop the latter"
            )


def _check_weights(run: Path, note: dict[str, Any], found: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Refuse results of other weights than the run's, which the description and the log published with them are of."""
    own = note.get("weights")
    for split, model, entry in found:
        judged = entry.get("weights_hash")
        if own is not None and judged is not None and judged != own:
            raise ValueError(
                f"run: its {split} results of {model}, seed {entry['seed']}, are of the weights {judged}, but model.pt "
                f"in {run} are {own}; run the evaluation again"
            )


def _check_of_bundle(bundle: Path, run: Path, note: dict[str, Any]) -> None:
    """Refuse a training of another bundle, whose classes and images are others."""
    model = note.get("model") or {}
    made = model.get("bundle")
    config = bundle / "configs" / "train.json"
    content = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    name = (content.get("model_description") or {}).get("bundle", made)
    if made is not None and made != name:
        raise ValueError(f"run: expected a training of the bundle {name}, got one of {made} in {run}; name its own")
    for what in ("classes", "channels"):  # bundles in two folders may have one name
        own, other = content.get(what), model.get(what)
        if isinstance(own, list | int) and other is not None and own != other:
            raise ValueError(
                f"run: expected a training of the bundle {name} with {what} {own}, got one with {other} in {run}; name "
                "its own"
            )


def _measured(entry: dict[str, Any]) -> str:
    return f"{entry['data']!r} ({entry['num_images']} images, {entry['num_draws']} draws)"


def _classes(model: str, classes: Sequence[str] | None) -> Sequence[str] | None:
    """Names of the classes that a model's table is of: of one of several findings its absence and presence."""
    _, _, finding = model.partition(", ")
    return classes_of_finding(finding) if finding and finding in (classes or ()) else classes


def _shown_path(weights: str, bundle: Path) -> str:
    """A path of weights as it may be published: from the bundle, or the file's name alone."""
    inside = os.path.relpath(weights, bundle)
    return Path(weights).name if inside.startswith("..") else inside


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target is either the old one or the whole new one."""
    with replaced(target) as temporary:
        shutil.copyfile(source, temporary)


def publish(bundle: Path, run: Path, *, replace: bool = False, num_resamples: int = 2000) -> list[str]:
    """Publish the results of a run; returns what was published, a text an evaluation.

    Raises:
        ValueError: when the run holds no results, some of other weights than its own, or is of another bundle, or when
            the bundle holds some of other images, or is none.
    """
    docs, results = bundle / "docs", read_results(run / "results.json")
    found = list(entries(results))
    if not found:
        raise ValueError(f"run: expected results in {run / 'results.json'}, found none; run the evaluation")
    if not bundle.is_dir():
        raise ValueError(f"bundle: expected the folder of a bundle, got {bundle}, which is none")
    note = read_model_note(run / "model.pt")
    _check_of_bundle(bundle, run, note)
    _check_weights(run, note, found)
    tables = [table_of(run, split, model, entry["seed"], entry.get("classes", ())) for split, model, entry in found]
    with FolderLock(docs):  # results are read, added to and written
        _check(docs, found, replace)
        return _copy_results(
            bundle, run, [(*entry, table) for entry, table in zip(found, tables, strict=True)], note, num_resamples
        )


def _copy_results(
    bundle: Path,
    run: Path,
    found: list[tuple[str, str, dict[str, Any], Path]],
    note: dict[str, Any],
    num_resamples: int,
) -> list[str]:
    """Copy evaluations with their tables; returns a text for each."""
    docs = bundle / "docs"
    published = []
    for split, model, entry, table in found:
        seed, folder = entry["seed"], docs / table.parent.relative_to(run)
        facts = {name: entry[name] for name in FACTS if name in entry}
        if "weights" in facts:
            facts["weights"] = _shown_path(facts["weights"], bundle)
        saver = EvaluationSaver(
            folder / table.name.replace(f"seed_{seed}", "seed_{seed}"),
            docs / "results.json",
            split=split,
            model=model,
            classes=_classes(model, facts.get("classes")),
            facts=facts,
            num_resamples=num_resamples,
            **{name: entry[name] for name in RECORDED},
        )
        rows = read_predictions(table)
        further = {name: entry[name] for name in NOT_OF_PROBABILITIES if name in entry}
        arrays = (rows["keys"].tolist(), rows["patients"].tolist(), rows["labels"], rows["probabilities"])
        saver.save(*arrays, further=further)
        for stored in table.parent.glob(f"*{split}_seed_{seed}.npz"):
            _copy_whole(stored, folder / stored.name)
        published.append(f"{split} {model} seed {seed}: {entry['num_images']} images of {entry['data']}")
        if note:
            _copy_whole(run / "model.json", docs / "training" / f"seed_{seed}.json")
    return published
