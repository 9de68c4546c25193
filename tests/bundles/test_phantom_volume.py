"""The bundle of volumes: trained, judged and applied to NIfTI; NoduleMNIST3D and AdrenalMNIST3D in its place."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import verify_metadata
from PIL import Image

from monai_diffclf.bundle import open_bundle
from monai_diffclf.data import find_medmnist3d
from monai_diffclf.data.example_volumes import write_example_volumes
from tests.bundles.conftest import bundle
from tests.bundles.workflows import bundle_workflow, causes, run
from tests.data.medmnist3d_files import COUNTS, write_medmnist3d

BUNDLE = bundle("phantom_volume_diffusion")
SMALL: dict[str, Any] = {
    "denoiser#network#channels": [8, 8, 8],
    "denoiser#network#norm_num_groups": 4,
    "denoiser#network#num_head_channels": 8,
    "progress": False,
    "device": torch.device("cpu"),
}
TRAIN = {
    **{"max_epochs": 1, "val_interval": 1, "val_draws": 4, "batch_size": 8, "audit": False},
    "train#named_handlers#samples#_disabled_": True,
}
FEW = {"num_images": {"train": 12, "validation": 6, "test": 6}}


def test_training_evaluation_and_inference(tmp_path):
    out = str(tmp_path / "out")
    run(bundle_workflow(BUNDLE, "train", "train.json", output_dir=out, **SMALL, **TRAIN, **FEW))
    both = ["train.json", "evaluate.json"]
    run(bundle_workflow(BUNDLE, "train", *both, output_dir=out, num_draws=2, **SMALL, **TRAIN, **FEW))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results
    volumes = write_example_volumes(tmp_path / "volumes", 3, seed=3)
    made = bundle_workflow(
        BUNDLE,
        "infer",
        "inference.json",
        dataset_dir=str(volumes),
        output_dir=str(tmp_path / "found"),
        checkpoint=f"{out}/model.pt",
        num_draws=2,
        maps=False,
        **SMALL,
    )
    run(made)
    (table,) = (tmp_path / "found").glob("*.csv")
    with table.open() as file:
        assert len(list(csv.DictReader(file))) == 3


@pytest.mark.parametrize("size", [28, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "label"), [("nodulemnist3d", "malignant"), ("adrenalmnist3d", "hyperplasia")])
def test_medmnist3d_is_trained_and_judged(name, label, size, tmp_path, monkeypatch):
    write_medmnist3d(tmp_path, monkeypatch, name, size)
    settings = {**SMALL, **TRAIN, "size": size, "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    made = bundle_workflow(BUNDLE, "train", "train.json", f"{name}.json", **settings)
    run(made)
    model = json.loads((tmp_path / "out" / "model.json").read_text())["model"]
    assert model["classes"][1] == label
    assert model["image_size"] == [size] * 3
    # 28 voxels are padded to what the network's levels divide by.
    assert tuple(made.parser.get_parsed_content("validate#dataset")[0]["image"].shape[1:]) == (-(-size // 8) * 8,) * 3
    assert len(made.parser.get_parsed_content("train#datalist")) == COUNTS[0]
    both = ["train.json", "evaluate.json", f"{name}.json"]
    run(bundle_workflow(BUNDLE, "train", *both, num_draws=4, **settings))
    assert (tmp_path / "out" / "results.json").is_file()


def refusal(bundle: Any, path: Path) -> str:
    """What is said of a file that a bundle does not take."""
    with pytest.raises((ValueError, RuntimeError)) as error:
        bundle.read(path)
    return ": ".join(causes(error.value))


def test_what_is_no_whole_volume_is_refused_in_one_line(tmp_path):
    opened = open_bundle(BUNDLE, device="cpu")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "plane.png")
    assert "plane.png" in refusal(opened, tmp_path / "plane.png")
    nib.save(nib.Nifti1Image(np.ones((32, 32, 10), np.float32), np.diag([10, 10, 10, 1])), tmp_path / "small.nii.gz")
    said = refusal(opened, tmp_path / "small.nii.gz")
    assert "small.nii.gz: expected a volume that covers at least 160 x 160 x 160 mm" in said
    volumes = write_example_volumes(tmp_path / "volumes", 2, seed=3)
    planes = open_bundle("phantom_xray_diffusion", device="cpu")
    assert "volume-3-0.nii.gz" in refusal(planes, next(volumes.rglob("volume-3-0.nii.gz")))


def test_medmnist3d_that_is_absent_is_one_clear_line(tmp_path):
    settings = {**SMALL, **TRAIN, "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    made = bundle_workflow(BUNDLE, "train", "train.json", "nodulemnist3d.json", **settings)
    with pytest.raises(RuntimeError) as error:
        made.initialize()
        made.run()
    assert any("expected nodulemnist3d at" in said and "download https" in said for said in causes(error.value))
    with pytest.raises(FileNotFoundError):
        find_medmnist3d(tmp_path, "nodulemnist3d")


def test_metadata_is_of_a_volume():
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32, 32]
    schema = Path(__file__).with_name("metadata_schema.json")
    verify_metadata(meta_file=str(BUNDLE / "configs" / "metadata.json"), filepath=str(schema))
    opened = open_bundle(BUNDLE, device="cpu")
    assert opened.image_size == (32, 32, 32)
