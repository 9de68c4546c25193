# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Blocks of an archive by this process, or by several of this machine that torchrun starts and watches."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO

from ..bundle import Bundle
from .block_classifier import BlockClassifier
from .block_record import write_block
from .workspace import Workspace

__all__ = ["raise_worker_error", "run_here", "run_torchrun"]

OnImages = Callable[[int], None]
_RESTARTS = 3
_LOOK = 0.5  # seconds between two looks for new records


def run_here(workspace: Workspace, bundle: Bundle, on_images: OnImages) -> None:
    """Classify all blocks that are missing in this process.

    Args:
        workspace: the workspace.
        bundle: the opened bundle.
        on_images: called with the number of images that were done.
    """
    plan = workspace.plan
    classifier = BlockClassifier(plan.settings, plan.fingerprint, bundle=bundle)
    for number in workspace.missing():
        record = classifier.classify(number, plan.block(number), plan.first(number), on_images)
        write_block(workspace.blocks, number, record.pack())


def run_torchrun(workspace: Workspace, num_processes: int, on_images: OnImages) -> None:
    """Classify all blocks that are missing in several processes.

    A process that dies costs nothing but the time for the blocks under way; only when all have died without a single
    block done does this give up.

    Args:
        workspace: the workspace.
        num_processes: number of processes.
        on_images: called with the number of images that were done.

    Raises:
        ValueError: what a worker raised that the user can mend.
        RuntimeError: when workers die, or what else one raised.
    """
    missing = workspace.missing()
    while missing:
        with tempfile.TemporaryFile() as log:
            _launch(workspace, min(num_processes, len(missing)), missing, on_images, log)
            raise_worker_error(workspace)
            left = workspace.missing()
            if len(left) == len(missing):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()[-15:]
                raise RuntimeError("the worker processes died before they had finished one block: " + " ".join(said))
        missing = left


def raise_worker_error(workspace: Workspace) -> None:
    """Raise what a worker left word of.

    Raises:
        ValueError: what the user can mend.
        RuntimeError: a fault, with the worker's traceback.
    """
    if not workspace.error_path.exists():
        return
    found = json.loads(workspace.error_path.read_text(encoding="utf-8"))
    line = str(found["line"]).removeprefix("error: ")
    raise ValueError(line) if found["code"] == 2 else RuntimeError(f"{line}\n{found['details']}")


def _launch(workspace: Workspace, num_processes: int, missing: list[int], on_images: OnImages, log: IO[bytes]) -> None:
    """Start the workers once, and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    command += [f"--max-restarts={_RESTARTS}", "--monitor-interval=0.5", "-m", "monai_diffclf.archive.worker"]
    command += [str(workspace.work.resolve()), secrets.token_hex(4)]
    waiting, plan = set(missing), workspace.plan
    # Workers end when their standard input does, with this process.
    agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        running = True
        while running and not workspace.error_path.exists():
            time.sleep(_LOOK)
            running = agent.poll() is None
            done = waiting - set(workspace.missing())
            waiting -= done
            for number in done:
                on_images(len(plan.block(number)))
    finally:
        if agent.stdin is not None:
            agent.stdin.close()
        if agent.poll() is None:
            agent.terminate()
        agent.wait()
