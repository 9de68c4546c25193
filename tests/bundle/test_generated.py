"""MONAI's own command works on a bundle that was made for somebody's images, from training to counterfactuals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.bundle import BundleSettings, open_bundle, write_bundle
from tests.bundles.workflows import torchrun

CLASSES = ["a, b", "=c'", "Ünï 猫"]
QUICK = {"max_epochs": 2, "val_interval": 1, "batch_size": 8, "warmup_steps": 2}
METHODS: dict[str, dict[str, Any]] = {
    "diffusion": {
        "denoiser#channels": [8, 8],
        "denoiser#attention_levels": [False, False],
        "denoiser#norm_num_groups": 4,
        "denoiser#num_head_channels": 8,
        "denoiser#num_res_blocks": 1,
        "val_draws": 2,
        "num_draws": 100,
    },
    "score": {"unet_channels": [8, 8], "val_draws": 2, "num_draws": 2, "num_steps": 4},
    "resnet18": {"network_def#widen_factor": 0.125},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPLIT/CLASS/*.png in colour, higher than wide; a class is brighter in one channel."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 7), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = rng.normal(110, 15, (30, 24, 3))
                pixels[..., label] += 60
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{split}_{label}_{n}.png")
    return root


def run(bundle: Path, *files: str, **options: Any) -> None:
    """`monai.bundle run` from the bundle's folder."""
    words = ["monai.bundle", "run", "--config_file", str([f"configs/{file}" for file in files])]
    for name, value in {"progress": False, **options}.items():
        words += [f"--{name}", str(value)]
    call(bundle, *words)


def call(folder: Path, *words: str) -> None:
    """`python -m ...` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Some ten processes that each import MONAI.
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_from_training_to_inference(method: str, pictures: Path, tmp_path: Path) -> None:
    settings = BundleSettings(
        name="made-up.1",
        classes=CLASSES,
        channels=3,
        image_size=[28, 20],
        method=method,
        values={**QUICK, **METHODS[method], "dataset_dir": pictures},
    )
    made = write_bundle(tmp_path / "made up", settings)
    torchrun(made, ["train.json", "multi_gpu_train.json"], progress=False)
    torchrun(made, ["train.json", "evaluate.json", "multi_gpu_evaluate.json"], progress=False)
    results = json.loads((made / "runs" / "seed_0" / "results.json").read_text())
    assert all(entry["num_images"] == 6 for entry in results["test"].values())
    run(made, "train.json", max_epochs=3)  # goes on, in one process
    run(made, "train.json", "evaluate.json")
    run(made, "inference.json", dataset_dir=pictures / "test")
    table = rows(made / "runs" / "inference")
    # Where a spreadsheet would take a name for a formula, the table has an apostrophe.
    keys, predicted = ([row[name].removeprefix("'") for row in table] for name in ("key", "predicted"))
    opened = open_bundle(made, run=made / "runs" / "seed_0", device="cpu")
    result = opened.classify([pictures / "test" / key for key in keys])
    assert len(table) == 6 and [opened.classes[k] for k in result.predicted.tolist()] == predicted
    if method == "diffusion":
        assert not opened.calibrated
        fit_and_stop_early(made, pictures)


def fit_and_stop_early(made: Path, pictures: Path) -> None:
    """What is fitted lies beside the weights, and fast.json and counterfactuals.json go over inference.json."""
    call(made, "monai_diffclf", "fit", ".", "--decision", "--no-progress")
    assert {"uncertainty.json", "decision.json"} <= {path.name for path in (made / "runs" / "seed_0").iterdir()}
    run(made, "inference.json", dataset_dir=pictures / "test", output_dir="runs/calibrated")
    assert all(row["prediction_set"] for row in rows(made / "runs" / "calibrated"))
    run(made, "inference.json", "fast.json", dataset_dir=pictures / "test", num_draws=60, output_dir="runs/fast")
    assert all(int(row["network_evaluations"]) <= 180 for row in rows(made / "runs" / "fast"))
    images = pictures / "test" / CLASSES[0]
    few = {"num_draws": 5, "calibrated": False, "counterfactuals#num_steps": 2, "output_dir": "runs/counterfactuals"}
    run(made, "inference.json", "counterfactuals.json", dataset_dir=images, **few)
    assert (made / "runs" / "counterfactuals" / "cases.html").is_file()
