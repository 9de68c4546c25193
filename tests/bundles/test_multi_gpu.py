"""The multi-GPU overrides run with two processes, on the CPU where there are no two GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.workflows import torchrun
from tests.data.mammography_trees import vindr_bundle_data

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SCORE = {"unet_channels": [8, 8], "progress": False}


# Four processes that each import MONAI.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "model"),
    [
        ("pneumonia_xray_diffusion", "diffusion_vote"),
        ("pneumonia_xray_score", "score_likelihood"),
        ("mammography_score", "score_likelihood"),
    ],
)
def test_two_processes_train_and_evaluate(
    bundle: str, model: str, image_folder: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    files, settings, data, images, likelihood = [], SCORE, image_folder, 12, {"num_steps": 4}
    if bundle == "pneumonia_xray_diffusion":
        settings, likelihood = small, {}
    elif bundle == "mammography_score":
        data, images = vindr_bundle_data(tmp_path / "data"), 4
        files, settings = ["vindr_mammo.json"], {**SCORE, "image_size": 32}
    shared = {**settings, "dataset_dir": data, "output_dir": tmp_path / "run"}
    training = {"max_epochs": 2, "val_interval": 1, "val_draws": 2, "batch_size": 4}
    torchrun(BUNDLES / bundle, ["train.json", *files, "multi_gpu_train.json"], **training, **shared)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["metric"] == "val_auc"
    torchrun(
        BUNDLES / bundle,
        ["train.json", "evaluate.json", *files, "multi_gpu_evaluate.json"],
        checkpoint=tmp_path / "run" / "model.pt",
        num_draws=2,
        evaluation_dir=tmp_path / "docs",
        results_path=tmp_path / "docs" / "results.json",
        **likelihood,
        **shared,
    )
    results = json.loads((tmp_path / "docs" / "results.json").read_text())
    # The test images on two processes: each counted once.
    assert results["test"][model]["num_images"] == images
