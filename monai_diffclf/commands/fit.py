# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf fit``: learn from the validation images how sure a training may be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from .._text import out_of_memory
from ..bundle import Bundle, find_bundle
from ..fitting import (
    DecisionFit,
    RunCascade,
    UncertaintyFit,
    fit_decision,
    fit_run_cascade,
    fit_uncertainty,
    measure_mirrored,
)
from ..fitting.choose_calibration import METHODS
from ..fitting.evaluated_labels import check_evaluated_labels
from ..fitting.fit_decision import check_enough
from ..fitting.fit_findings import (
    findings_errors,
    fit_findings,
    fit_findings_decision,
    has_findings,
    join_findings,
)
from ..fitting.fit_uncertainty import mean_image_note
from ..fitting.fitted_run import Evaluated, evaluated_run
from ..fitting.image_description import describe_images, describe_training
from ..fitting.same_images import OtherImagesError, check_images
from ..handlers import read_results
from ..storage import StoredErrors, load_errors
from ..storage.folder_lock import FolderLock
from ..uncertainty.ensemble import POOLS
from .fit_words import deferred, meaning, taken_by
from .options import bundle_argument, data_option, run_option
from .results import command_options, finish
from .runs import Started, check_data, check_decides_by_errors, decision_of, open_run, run_folder

__all__ = ["command"]

_LEARNED = ("nested_auc", "few_draws_auc", "stopping")
_FILES = ("train.json", "evaluate.json")


@click.command("fit")
@bundle_argument
@run_option
@data_option
@click.option(
    "--decision", is_flag=True, help="Also learn how to spend draws (fast.json); needs errors of 50 draws or more."
)
@click.option(
    "--cascade",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="Also learn where the classifier of this run, such as a ResNet, may answer first (cascade.json).",
)
@click.option("--max-loss", type=float, default=0.01, show_default=True, help="Accuracy that the cascade may lose.")
@click.option(
    "--pool",
    type=click.Choice(POOLS),
    help="Answer what the first is unsure of by both classifiers together; default: by the second.",
)
@click.option(
    "--confidence",
    type=float,
    default=0.9,
    show_default=True,
    help="Share of the images whose set is to hold their class.",
)
@click.option("--method", type=click.Choice(METHODS), help="How to calibrate; default: the best in cross-fitting.")
@command_options
def command(
    bundle: str,
    run: Path | None,
    data: str | None,
    decision: bool,
    cascade: Path | None,
    max_loss: float,
    pool: str | None,
    confidence: float,
    method: str | None,
    progress: bool,
    debug: bool,
) -> None:
    """Learn from the validation images how sure a training may be: probabilities, prediction sets, unusual images.

    BUNDLE is the bundle that was trained and evaluated. Writes uncertainty.json into the run's folder, which classify
    and inference take from there; of several findings a file each into its folder findings. Unusual images are found
    best where the validation images are at hand (--data).
    """
    source = click.get_current_context().get_parameter_source("max_loss")
    if cascade is None and (pool is not None or source is click.core.ParameterSource.COMMANDLINE):
        raise ValueError(f"{'--max-loss' if pool is None else '--pool'}: expected it with --cascade, which it is about")
    root = find_bundle(bundle)
    if not 0 < confidence < 1:
        raise ValueError(f"--confidence: expected a number between 0 and 1, such as 0.9, got {confidence}")
    folder = run_folder(root, run)
    if has_findings(folder):
        if cascade is not None:
            raise ValueError("--cascade: expected none for several findings, which have no such fit")
        _fit_findings(root, folder, data, decision=decision, confidence=confidence, method=method)
        return
    where = _evaluated(root, folder, bundle, named=run is not None)
    stored = load_errors(where.errors)
    opened = _open(root, folder, where, check_data(root, _FILES, data), stored.errors.num_draws)
    check_decides_by_errors(opened, "fit")
    decided = decision_of(root, _FILES, folder)
    _check_decision(opened, folder)
    if decision:
        check_enough(stored, where.errors)
    with FolderLock(folder):
        at_hand = _at_hand(opened, stored, where, named=data is not None)
        fit = fit_uncertainty(
            opened,
            stored,
            source=where.errors,
            confidence=confidence,
            method=method,
            mean_image=mean_image_note(opened, where.uncertainty, with_images=at_hand),
            described=describe_images(opened, stored, progress=progress) if at_hand else None,
            training=_training(opened, stored, folder, progress=progress) if at_hand else None,
            settings=decided,
        )
        learned = _decide(opened, stored, where, progress=progress) if decision else None
        # Saved when all is learned: half of it would be taken for the whole.
        joined = None if cascade is None else fit_run_cascade(cascade, folder, max_loss=max_loss, pool=pool)
        fit.save(where.uncertainty)
        if learned is not None:
            learned.save(where.decision)
    own = [] if (folder / "model.pt").is_file() else [taken_by(bundle, where, stored.errors.num_draws, decided)]
    _finish(fit, learned, joined, where, confidence, own)


def _finish(
    fit: UncertaintyFit,
    learned: DecisionFit | None,
    joined: RunCascade | None,
    where: Evaluated,
    confidence: float,
    remarks: Sequence[str],
) -> None:
    """Say what was fitted, and where it lies."""
    result: dict[str, Any] = {"path": str(where.uncertainty), "methods": fit.methods}
    result["remarks"] = [*fit.remarks, *remarks]
    result |= {name: fit.notes[name] for name in ("images", "cross_fitted_loss")}
    lines = [*meaning(fit, confidence), *result["remarks"]]
    if learned is not None:
        result |= _learned_values(where.decision, learned)
        result["remarks"] += learned.remarks
        lines += [*learned.remarks, f"how to spend draws: {where.decision}"]
    if joined is not None:
        result |= {"cascade": str(joined.path), "deferred": {rule: fit.deferred for rule, fit in joined.fits.items()}}
        lines += [deferred(rule, fit) for rule, fit in joined.fits.items()]
    finish(result, "\n".join([*lines, str(where.uncertainty)]))


def _fit_findings(
    root: Path, folder: Path, data: str | None, *, decision: bool, confidence: float, method: str | None
) -> None:
    """The same of several findings, each by its own errors."""
    of_each = [load_errors(path) for path in findings_errors(folder)]
    opened = _open_findings(root, folder, of_each, check_data(root, _FILES, data))
    if decision:
        check_enough(join_findings(of_each), folder / "evaluation")
    with FolderLock(folder):
        decided = decision_of(root, _FILES, folder)
        fitted = fit_findings(opened, folder, of_each, confidence=confidence, method=method, settings=decided)
        draws = fit_findings_decision(opened, folder, of_each) if decision else None
        fitted.save()
        values, words = fitted.report(confidence)
        if draws is not None:
            draws.save(folder / "decision.json")
            values |= _learned_values(folder / "decision.json", draws)
            words = "\n".join([*draws.remarks, f"how to spend draws: {folder / 'decision.json'}", words])
    finish(values, words)


def _learned_values(path: Path, learned: DecisionFit) -> dict[str, Any]:
    """Where what was learned about draws is, and what it gains."""
    return {"decision": str(path), **{name: learned.notes.get(name) for name in _LEARNED}}


def _evaluated(root: Path, folder: Path, bundle: str, *, named: bool) -> Evaluated:
    shipped = root / "models" / "model.pt"
    first = f"monai-diffclf evaluate {bundle}" + (f" --run {folder}" if named else "")
    if not (folder / "evaluation").is_dir():
        if read_results(folder / "results.json"):  # it was evaluated, and left none
            check_decides_by_errors(open_run(root, _FILES, folder), "fit")
        raise ValueError(f"--run: expected the folder of a run that was evaluated, got {folder}; first {first}")
    return evaluated_run(folder, shipped=None if (folder / "model.pt").is_file() else shipped)


def _open(root: Path, folder: Path, where: Evaluated, dataset: str | None, draws: int) -> Bundle:
    """The bundle with the run's weights and draws, set as its training was."""
    dataset = dataset or check_data(root, _FILES, Started.of(folder).data)
    settings: dict[str, Any] = {"num_draws": draws} | ({} if dataset is None else {"dataset_dir": Path(dataset)})
    if not (folder / "model.pt").is_file():
        settings["checkpoint"] = where.settings["checkpoint"]
    return open_run(root, _FILES, folder, **settings)


def _open_findings(root: Path, folder: Path, stored: Sequence[StoredErrors], dataset: str | None) -> Bundle:
    """The bundle with the run's weights, or those it ships, set as its evaluation was."""
    settings: dict[str, Any] = {"num_draws": stored[0].errors.num_draws} | (
        {} if dataset is None else {"dataset_dir": dataset}
    )
    if not (folder / "model.pt").is_file():
        settings["checkpoint"] = str(root / "models" / "model.pt")
    opened = open_run(root, _FILES, folder, **settings)
    _check_decision(opened, folder)
    _check_findings_labels(opened, stored)
    return opened


def _check_findings_labels(bundle: Bundle, stored: Sequence[StoredErrors]) -> None:
    """Refuse validation images whose labels are others than those evaluated, where they are at hand."""
    try:
        items = bundle.get("validate#datalist")
    except (ValueError, OSError):
        return  # nothing of the fit needs them
    for number, own in enumerate(stored):
        check_evaluated_labels(own.keys, own.labels, items, finding=number)


def _check_decision(bundle: Bundle, folder: Path) -> None:
    """Refuse an evaluation with another weighting or temperature than the run is opened with."""
    for model in read_results(folder / "results.json").get("validation", {}).values():
        for name in ("weighting", "temperature"):
            own = bundle.decision.get(name)
            if name in model and own is not None and str(model[name]) != str(own):
                raise ValueError(
                    f"--run: expected an evaluation with {name} {own}, as the bundle classifies, got one with "
                    f"{model[name]} in {folder}; evaluate it again by monai-diffclf evaluate, which keeps --set {name}"
                )


def _at_hand(bundle: Bundle, stored: StoredErrors, where: Evaluated, *, named: bool) -> bool:
    """Whether the validation images are at hand, by which unusual and inverted ones are found.

    Raises:
        ValueError: when they are not those evaluated where the user has named them, or have other labels.
    """
    try:
        check_images(bundle, stored, where.errors)
    except (ValueError, OSError) as error:
        if named or isinstance(error, OtherImagesError):
            raise
        print(
            "the validation images are not at hand: unusual images will be found by their errors alone, and inverted "
            f"ones not at all ({error})",
            file=sys.stderr,
        )
        return False
    check_evaluated_labels(stored.keys, stored.labels, bundle.get("validate#datalist"))
    return True


def _training(bundle: Bundle, stored: StoredErrors, folder: Path, *, progress: bool) -> dict[str, torch.Tensor] | None:
    """What describes the training images, by which unusual ones are found better; None where they are not at hand."""
    audit = folder / "audit.json" if (folder / "model.pt").is_file() else None
    try:
        return describe_training(bundle, stored, audit=audit, progress=progress)
    except (ValueError, OSError, RuntimeError) as error:  # the latter of a transform that cannot read an image
        if out_of_memory(error):
            raise
        print(
            "the training images are not at hand: what is unusual will be learned from the validation images alone "
            f"({error})",
            file=sys.stderr,
        )
        return None


def _decide(bundle: Bundle, stored: StoredErrors, where: Evaluated, *, progress: bool) -> DecisionFit:
    mirrored = measure_mirrored(bundle, where.mirrored, progress=progress)
    return fit_decision(bundle, stored, mirrored, source=where.errors)
