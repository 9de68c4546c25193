"""The multi-GPU overrides run with two processes, on the CPU where there are no two GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"


def torchrun(files: list[str], **overrides: Any) -> None:
    """`monai.bundle run` of the configuration files in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", str([f"configs/{file}" for file in files])]
    for name, value in overrides.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=BUNDLE, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow  # four processes that each import MONAI
def test_two_processes_train_and_evaluate(image_folder: Path, small: dict[str, Any], tmp_path: Path) -> None:
    shared = {**small, "dataset_dir": image_folder, "output_dir": tmp_path / "run"}
    torchrun(["train.json", "multi_gpu_train.json"], max_epochs=2, val_interval=1, val_draws=2, batch_size=4, **shared)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["metric"] == "val_auc"
    torchrun(
        ["train.json", "evaluate.json", "multi_gpu_evaluate.json"],
        checkpoint=tmp_path / "run" / "model.pt",
        num_draws=2,
        evaluation_dir=tmp_path / "docs",
        results_path=tmp_path / "docs" / "results.json",
        **shared,
    )
    results = json.loads((tmp_path / "docs" / "results.json").read_text())
    # 12 test images on two processes: each counted once.
    assert results["test"]["diffusion_vote"]["num_images"] == 12
