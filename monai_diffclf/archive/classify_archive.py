# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Classify many images into one folder: found, shared among workers, put together; goes on where it was stopped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..handlers import ShiftWarning
from ..inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from ..run import check_not_shipped
from ..storage.folder_lock import FolderLock
from .block_classifier import bundle_handler, reads_volumes
from .inputs import find_archive
from .merge import Merged, damaged_blocks, merge
from .plan import MAPS, ArchivePlan, ClassifierSettings, make_plan
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
        counts: number of images of each class.
        failed: name of each image that could not be read, and why.
        weights: fingerprint of the network's weights.
        classes: names of the classes.
        done_before: whether an earlier run had done it all.
        calibrated: whether the probabilities are calibrated.
        notes: what of a training could not be taken, see `monai_diffclf.bundle.Bundle`.
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

    Raises:
        ValueError: when images or settings are not what is expected, the folder is in use, or holds the results of
            another run.

    Warns:
        UserWarning: what is left out, what the bundle cannot give, and when images differ from those of the validation.
    """
    if settings.maps not in MAPS:
        raise ValueError(f"maps: expected one of {', '.join(MAPS)}, got {settings.maps}")
    folder = Path(output).expanduser()
    check_not_shipped(folder)
    bundle = settings.open()
    found = find_archive(images, output=folder, volumes=reads_volumes(bundle))
    _check_prior(bundle)
    plan = make_plan(found, settings, bundle)
    _warn_of_limits(plan, bundle)
    with FolderLock(folder):
        workspace = Workspace(folder, plan)
        if workspace.prepare(replace=replace):
            done = _done_before(workspace)
        else:
            merged = _work(workspace, bundle, num_processes, ray, num_workers, progress)
            workspace.publish()
            weights = str(plan.made_by["weights"])
            done = ArchiveResult(folder, len(found), merged.counts, merged.failed, weights, bundle.classes)
    return replaced(done, calibrated=bundle.calibrated, notes=bundle.notes)


def _check_prior(bundle: Any) -> None:
    """Refuse shares of the classes that nothing would be done with."""
    prior = bundle.get("prior") if "prior" in bundle.parser else None
    if prior is not None and "calibrated" in bundle.parser and not bundle.calibrated:
        raise ValueError(
            f"prior: expected None where probabilities are not calibrated, as it would have no effect, got {prior}; "
            "fit the training first, or leave prior out"
        )


def _work(
    workspace: Workspace, bundle: Any, num_processes: int, ray: bool, num_workers: int | None, progress: bool
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
    return merge(workspace, bundle)


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
