# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Blocks of an archive by Ray Data: on the cores of this machine, or on the machines of a cluster."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._command_end import describe
from .block_classifier import BlockClassifier
from .block_record import write_block
from .plan import ArchivePlan, ClassifierSettings, images_from_json, images_to_json
from .processes import raise_worker_error
from .workspace import Workspace, write_error

__all__ = ["run_ray"]


_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"


class _Actor:
    """Keeps the bundle, and classifies one block after the other."""

    def __init__(self, settings: ClassifierSettings, fingerprint: str) -> None:
        self.settings, self.fingerprint = settings, fingerprint
        self.classifier: BlockClassifier | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ((number, first, images),) = zip(
            batch["number"].tolist(), batch["first"].tolist(), batch["images"], strict=True
        )
        record, error = b"", ("0", "", "")
        try:
            if self.classifier is None:  # here, so that what is wrong with a bundle is told like anything else
                self.classifier = BlockClassifier(self.settings, self.fingerprint)
            record = self.classifier.classify(number, images_from_json(images), first).pack()
        except Exception as raised:
            code, line = describe(raised)
            error = (str(code), line, traceback.format_exc())
        return {
            "number": np.array([number]),
            "record": np.array([record], dtype=object),
            "error": np.array(["\0".join(error)], dtype=object),
        }


def run_ray(workspace: Workspace, num_workers: int | None, on_images: Callable[[int], None]) -> None:
    """Classify all blocks that are missing by Ray Data, in actors of one CPU core, or one GPU, each.

    Where a cluster runs (``ray start``) its machines do the work, otherwise cores of this one. Images and bundle must
    lie at the same place on each; records come back to this process, which alone writes. Ray starts an actor anew that
    dies, and gives its block to another.

    Args:
        workspace: the workspace.
        num_workers: number of actors; None for one on each core, or each GPU.
        on_images: called with the number of images that were done.

    Raises:
        ValueError: when Ray is not installed; what a worker raised that the user can mend.
        RuntimeError: what else one raised.
    """
    missing, plan = workspace.missing(), workspace.plan
    if not missing:
        return
    with _started(num_workers) as ray:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.verbose_progress = False
        count, gpus = _resources(ray, plan, num_workers)
        rows = [
            {"number": number, "first": plan.first(number), "images": images_to_json(plan.block(number))}
            for number in missing
        ]
        blocks = ray.data.from_items(rows, override_num_blocks=len(rows))
        results = blocks.map_batches(
            _Actor,
            fn_constructor_args=(plan.settings, plan.fingerprint),
            batch_size=1,
            concurrency=min(count, len(missing)),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
        )
        for row in results.iter_rows():
            code, line, details = row["error"].split("\0", 2)
            if line:
                write_error(workspace.error_path, int(code), line, details)
                raise_worker_error(workspace)
            write_block(workspace.blocks, int(row["number"]), row["record"])
            on_images(len(plan.block(int(row["number"]))))


@contextmanager
def _started(num_workers: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster that runs or started on this machine."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(
            f"--ray: expected Ray Data to be installed, but {error}; pip install 'monai-diffclf[ray]', or use "
            "--num-processes"
        ) from error
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    own = not ray.is_initialized()
    before = os.environ.get(_LOG_LEVEL)
    if own:
        # Its core warns of every actor that it may not be able to start it anew, which it is.
        os.environ[_LOG_LEVEL] = before or "fatal"
        cores = max(num_workers or 0, os.cpu_count() or 1)
        try:
            # Without an address: one of `ray start` is found, what another command has started for itself is not.
            ray.init(num_cpus=cores, include_dashboard=False, **quiet)
        except ValueError:  # such a cluster runs, and has its own number of cores
            ray.init(**quiet)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()
            if before is None:
                del os.environ[_LOG_LEVEL]


def _resources(ray: Any, plan: ArchivePlan, num_workers: int | None) -> tuple[int, float]:
    """How many actors, and which part of a GPU each has."""
    found = ray.cluster_resources()
    if plan.made_by["device"] != "cuda":
        return num_workers or max(1, int(found.get("CPU", 1))), 0
    gpus = found.get("GPU", 0)
    if not gpus:
        raise ValueError("--ray: expected GPUs in the Ray cluster, but it has none; add --device cpu")
    count = num_workers or int(gpus)
    return count, min(1.0, gpus / count)
