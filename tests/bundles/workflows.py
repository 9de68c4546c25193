"""Running a bundle's configuration files from a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow


def bundle_workflow(bundle: Path, kind: str, *files: str, **overrides: Any) -> ConfigWorkflow:
    """A workflow of configuration files of a bundle."""
    configs = bundle / "configs"
    return ConfigWorkflow(
        workflow_type=kind,
        config_file=[str(configs / file) for file in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        bundle_root=str(bundle),
        **overrides,
    )


def run(made: ConfigWorkflow) -> None:
    """Initialise, run and finalise."""
    made.initialize()
    made.run()
    made.finalize()


def torchrun(bundle: Path, files: list[str], **overrides: Any) -> None:
    """`monai.bundle run` of the configuration files in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", str([f"configs/{file}" for file in files])]
    for name, value in overrides.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


def refusal(made: ConfigWorkflow) -> str:
    """What the innermost error of a run says."""
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run(made)
    return causes(caught.value)[-1]


def causes(error: BaseException | None) -> list[str]:
    """Messages of an error and of what caused it."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__cause__
    return messages
