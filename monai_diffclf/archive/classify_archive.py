# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Classify many images into one folder: found, shared among workers, put together; goes on where it was stopped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .._class_names import SEPARATOR, find_name
from .._optional import require
from .._text_path import text_path
from ..handlers import ShiftWarning
from ..inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from ..run import check_not_shipped
from ..storage.folder_lock import FolderLock
from .block_classifier import bundle_handler, reads_volumes
from .dicom_folder import DicomFolder
from .dicom_results import algorithm_of, check_images, has_findings
from .inputs import find_archive
from .merge import Merged, damaged_blocks, merge
from .plan import MAPS, ArchivePlan, ClassifierSettings, make_plan, read_plan
from .processes import run_here, run_torchrun
from .ray_workers import run_ray
from .workspace import MAPS as MAPS_FOLDER
from .workspace import REPORT, RESULTS, TABLE, Workspace, read_results

__all__ = ["ArchiveResult", "classify_archive"]


@dataclass(frozen=True)
class ArchiveResult:
    """What was written, and what the images came to.

    Args:
        folder: the output folder.
        images: number of images.
        counts: number of images of each class, or of each set of findings, as the table calls it.
        failed: name of each image that could not be read, and why.
        weights: fingerprint of the network's weights.
        classes: names of the classes.
        done_before: whether an earlier run had done it all.
        calibrated: whether the probabilities are calibrated.
        notes: what of a training could not be taken, see `monai_diffclf.bundle.Bundle`.
        dicom: the folder of DICOM results, None where none were asked for.
        without_dicom: name of each DICOM image that has none, and why.
    """

    folder: Path
    images: int
    counts: dict[str, int]
    failed: list[tuple[str, str]]
    weights: str
    classes: list[str]
    done_before: bool = False
    calibrated: bool = False
    notes: tuple[str, ...] = ()
    dicom: Path | None = None
    without_dicom: tuple[tuple[str, str], ...] = ()

    def count(self, name: str) -> int:
        """Number of images of a class, or with a finding, of which an image may have others too."""
        several = [number for called, number in self.counts.items() if self._is_several(called, name)]
        return self.counts.get(name, 0) + sum(several)

    def _is_several(self, called: str, name: str) -> bool:
        return called not in self.classes and name in called.split(SEPARATOR)

    @property
    def table(self) -> Path:
        """The table."""
        return self.folder / TABLE

    @property
    def results(self) -> Path:
        """The same as JSON."""
        return self.folder / RESULTS

    @property
    def report(self) -> Path | None:
        """The report, None where none was written."""
        return self._existing(REPORT)

    @property
    def maps(self) -> Path | None:
        """The folder of maps, None where there are none."""
        return self._existing(MAPS_FOLDER)

    def _existing(self, name: str) -> Path | None:
        return self.folder / name if (self.folder / name).exists() else None


def classify_archive(
    images: Sequence[str | os.PathLike[str]],
    settings: ClassifierSettings,
    output: str | os.PathLike[str],
    *,
    num_processes: int = 1,
    ray: bool = False,
    num_workers: int | None = None,
    replace: bool = False,
    progress: bool = True,
    dicom_out: str | os.PathLike[str] | None = None,
) -> ArchiveResult:
    """Classify the images of some files and folders; the results do not depend on who shares the work.

    Written are ``predictions.csv`` (see `ClassificationWriter`), ``predictions.json`` (the same rows, and what made
    them), ``maps/`` and ``cases.html``. The same call again goes on where the last one was stopped.

    Args:
        images: files and folders, see `find_archive`; for a bundle that reads volumes, a folder of slices is one image.
        settings: the bundle and how it classifies.
        output: the output folder.
        num_processes: processes on this machine, started by torchrun.
        ray: share the work by Ray Data instead.
        num_workers: its actors; None for one on each core, or each GPU.
        replace: remove what another run has written to the folder.
        progress: whether to show a bar.
        dicom_out: a folder for DICOM results of the DICOM images; with ``settings.positive`` a worklist and notes of
            what to read first too, for which all findings of a bundle for several count unless it names some. None for
            none.

    Raises:
        ValueError: when images or settings are not what is expected, the folder is in use, or holds the results of
            another run.

    Warns:
        UserWarning: what is left out, what the bundle cannot give, and when images differ from those of the validation.
    """
    if settings.maps not in MAPS:
        raise ValueError(f"maps: expected one of {', '.join(MAPS)}, got {settings.maps}")
    folder = _folder(output, "--output")
    target = None if dicom_out is None else _folder(dicom_out, "--dicom-out")
    for each in (folder, *([] if target is None else [target])):
        check_not_shipped(each)
    settings = _with_dicom(settings, folder, target)
    bundle = settings.open()
    volumes = reads_volumes(bundle)
    found = find_archive(images, output=folder, dicom_output=target, volumes=volumes)
    if target is not None:
        check_images(found)
    _check_prior(bundle)
    settings = _with_positive(settings, bundle)
    plan = make_plan(found, settings, bundle)
    _warn_of_limits(plan, bundle)
    with FolderLock(folder), FolderLock(target) if target is not None else nullcontext():
        workspace, dicom = Workspace(folder, plan), None
        if target is not None:
            dicom = DicomFolder(target, plan, volumes=volumes, several=has_findings(bundle))
            dicom.prepare(replace=replace)
        if workspace.prepare(replace=replace, again=dicom is not None and not dicom.is_done()):
            done = _done_before(workspace)
        else:
            # Of an earlier start of this work, whose time its results have.
            plan = workspace.plan = read_plan(workspace.plan_path)
            if dicom is not None:
                dicom.plan = plan
            try:
                merged = _work(workspace, bundle, num_processes, ray, num_workers, progress, dicom)
            except ValueError:  # refused, as it would be again
                workspace.give_up()
                raise
            weights = str(plan.made_by["weights"])
            if dicom is not None:
                dicom.publish(algorithm_of(bundle, weights))
            workspace.publish()
            done = ArchiveResult(folder, len(found), merged.counts, merged.failed, weights, bundle.classes)
        if dicom is not None:
            left_out = tuple((str(key), str(why)) for key, why in dicom.about()["left_out"])
            done = replaced(done, dicom=target, without_dicom=left_out)
    return replaced(done, calibrated=bundle.calibrated, notes=bundle.notes)


def _folder(given: str | os.PathLike[str], name: str) -> Path:
    """A folder for results, which may not be there yet."""
    folder = text_path(given, name).expanduser()
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{name}: expected a folder, but {folder} is none; name another, or move it away")
    return folder


def _with_dicom(settings: ClassifierSettings, folder: Path, target: Path | None) -> ClassifierSettings:
    """The settings with what DICOM results need to know."""
    if target is None:
        if settings.positive:
            raise ValueError("--positive: expected it with --dicom-out, as it is for the worklist there")
        return settings
    require("highdicom", argument="--dicom-out", purpose="writing DICOM", extra="highdicom")
    if os.path.realpath(target) == os.path.realpath(folder):
        raise ValueError(f"--dicom-out: expected another folder than --output, got {target} for both")
    begun = datetime.now().replace(microsecond=0).isoformat()
    return replaced(settings, dicom=True, begun=begun)


def _with_positive(settings: ClassifierSettings, bundle: Any) -> ClassifierSettings:
    """The settings with what is urgent, where there is a worklist: of several findings all, unless some are named."""
    places = [find_name(name, bundle.classes) for name in settings.positive]
    if unknown := [name for name, place in zip(settings.positive, places, strict=True) if place is None]:
        raise ValueError(f"--positive: expected names among the classes {', '.join(bundle.classes)}, got {unknown[0]}")
    settings = replaced(settings, positive=[bundle.classes[place] for place in places if place is not None])
    if settings.positive and len(set(settings.positive)) == len(bundle.classes) and not has_findings(bundle):
        raise ValueError("--positive: expected some of the classes, not all, as all images would be as urgent")
    if settings.dicom and has_findings(bundle) and not settings.positive:
        return replaced(settings, positive=list(bundle.classes))
    return settings


def _check_prior(bundle: Any) -> None:
    """Refuse shares of the classes that nothing would be done with."""
    prior = bundle.get("prior") if "prior" in bundle.parser else None
    if prior is not None and "calibrated" in bundle.parser and not bundle.calibrated:
        raise ValueError(
            f"prior: expected None where probabilities are not calibrated, as it would have no effect, got {prior}; "
            "fit the training first, or leave prior out"
        )


def _work(
    workspace: Workspace,
    bundle: Any,
    num_processes: int,
    ray: bool,
    num_workers: int | None,
    progress: bool,
    dicom: DicomFolder | None,
) -> Merged:
    """Have all blocks done, and put them together."""
    plan = workspace.plan
    damaged = damaged_blocks(workspace)
    left = sum(len(plan.block(number)) for number in damaged)
    total = len(plan.images)
    with tqdm(
        total=total, initial=total - left, unit=" images", desc="classify", mininterval=0.5, disable=not progress
    ) as bar:

        def on_images(count: int) -> None:
            bar.update(count)

        if ray:
            run_ray(workspace, num_workers, on_images)
        elif num_processes > 1 and len(damaged) > 1:
            run_torchrun(workspace, num_processes, on_images)
        elif damaged:
            run_here(workspace, bundle, on_images)
    return merge(workspace, bundle, dicom)


def _warn_of_limits(plan: ArchivePlan, bundle: Any) -> None:
    """Say what the bundle cannot give, before it takes long."""
    for note in bundle.notes:
        warnings.warn(note, stacklevel=3)
    inferer = bundle.inferer
    if not isinstance(inferer, DiffusionClassifierInferer | ScoreClassifierInferer):
        if plan.settings.maps != "none":
            warnings.warn(f"{bundle.name} classifies without noise draws: there are no votes and no maps", stacklevel=3)
    elif inferer.stopping is not None and plan.settings.maps != "none":
        warnings.warn(f"{bundle.name} stops early, and maps need all draws: there are none", stacklevel=3)
    if plan.settings.report and len(plan.images) > plan.settings.max_cases:
        warnings.warn(
            f"{len(plan.images):,} images: the report shows the {plan.settings.max_cases} least sure ones", stacklevel=3
        )
    _ = bundle_handler(bundle, ShiftWarning)  # refuses what was fitted to another model


def _done_before(workspace: Workspace) -> ArchiveResult:
    found = read_results(workspace.folder / RESULTS)
    counts: dict[str, int] = {}
    failed = []
    for row in found["predictions"]:
        if row["error"]:
            failed.append((row["key"], row["error"]))
        else:
            counts[row["predicted"]] = counts.get(row["predicted"], 0) + 1
    return ArchiveResult(
        workspace.folder, found["images"], counts, failed, found["weights"], found["classes"], done_before=True
    )
