"""A small bundle that trains in a second or two, and a folder of studies with labels that can be learned."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from monai_diffclf.bundle import BundleSettings, open_bundle, write_bundle
from tests.volume_fixtures import write_series

CLASSES = ["left", "right"]
VALUES: dict[str, Any] = {
    "denoiser#channels": [8, 16],
    "denoiser#attention_levels": [False, False],
    "denoiser#num_res_blocks": 1,
    "denoiser#num_head_channels": 8,
    "denoiser#norm_num_groups": 4,
    "num_draws": 5,
    "val_draws": 2,
    "device": "cpu",
}


def write_small_bundle(folder: Path, *, volumes: bool = False) -> Path:
    """A bundle of untrained weights that tells bright left halves from bright right ones, once trained."""
    values = {name: value for name, value in VALUES.items() if name != "device"}
    values |= {"scale#a_min": -1024.0, "scale#a_max": 1000.0} if volumes else {}
    size, parts = [16] * (3 if volumes else 2), ["volumes"] * volumes
    settings = BundleSettings(
        name=folder.name, classes=CLASSES, channels=1, image_size=size, values=values, parts=parts
    )
    write_bundle(folder, settings)
    torch.manual_seed(0)
    network = open_bundle(folder, "train.json").get("denoiser")
    for parameter in network.parameters():  # the last layer begins with zeros: no class would differ
        torch.nn.init.normal_(parameter, std=0.05) if not parameter.any() else None
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def write_series_studies(folder: Path, number: int) -> Path:
    """Series of DICOM slices, each in a folder, with one half brighter; every fifth is a ZIP file of them."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    objects: dict[str, Any] = {}
    for index in range(number):
        stored = generator.integers(100, 300, (4, 8, 16))
        stored[:, :, slice(0, 8) if index % 2 == 0 else slice(8, 16)] += 500
        series = write_series(folder / f"s{index:03d}", stored, PatientID=f"D{index // 2}", spacing=(1, 1, 1))
        name, ext = series.name, ""
        if index % 5 == 4:
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for file in sorted(series.iterdir()):
                    archive.write(file, file.name)
            shutil.rmtree(series)
            ext = ".zip"
        label = {"final": {"ext": ".json", "info": {"label": CLASSES[index % 2]}}}
        objects[name] = {"image": {"ext": ext, "info": {}}, "labels": label}
    store = {"name": "x", "description": "", "images_dir": ".", "labels_dir": "labels", "objects": objects}
    (folder / "datastore_v2.json").write_text(json.dumps(store))
    return folder


def write_studies(folder: Path, number: int, *, labels: bool = True, info: Mapping[str, Any] | None = None) -> Path:
    """Images with one half brighter, and the datastore that holds their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    objects: dict[str, Any] = {}
    for index in range(number):
        pixels = generator.uniform(60, 120, (16, 16))
        pixels[:, slice(0, 8) if index % 2 == 0 else slice(8, 16)] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"p{index:03d}.png")
        label = {"final": {"ext": ".json", "info": {"label": CLASSES[index % 2]}}} if labels else {}
        objects[f"p{index:03d}"] = {"image": {"ext": ".png", "info": dict(info or {})}, "labels": label}
    store = {"name": "x", "description": "", "images_dir": ".", "labels_dir": "labels", "objects": objects}
    (folder / "datastore_v2.json").write_text(json.dumps(store))
    for name, entry in objects.items():
        for tag, label in entry["labels"].items():
            (folder / "labels" / tag).mkdir(parents=True, exist_ok=True)
            (folder / "labels" / tag / f"{name}.json").write_text(json.dumps({"label": label["info"]["label"]}))
    return folder
