"""The bundle of 14 findings: CheXpert and NIH ChestX-ray14, from files as distributed to metrics."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import verify_metadata

from monai_diffclf.bundle import open_bundle
from monai_diffclf.data.chexpert_files import FINDINGS as CHEXPERT
from monai_diffclf.data.nih_chest_xray14 import FINDINGS as NIH
from tests.bundles.conftest import bundle
from tests.bundles.workflows import bundle_workflow, causes, run
from tests.data import finding_trees

NAME = "chest_xray_findings_diffusion"
SMALL: dict[str, Any] = {
    "progress": False,
    "num_workers": 0,
    "image_size": [32, 32],
    "denoiser#levels": 1,
    "denoiser#channels": [8, 8],
    "denoiser#attention_levels": [False, True],
    "denoiser#num_head_channels": 8,
    "denoiser#norm_num_groups": 4,
}
TRAIN = {"max_epochs": 1, "val_interval": 1, "val_draws": 1, "batch_size": 16}
SETS = {
    "chexpert": ([], CHEXPERT, finding_trees.chexpert, 14),
    "nih": (["nih.json"], NIH, finding_trees.nih, 30),
}


@pytest.mark.parametrize("data", ["chexpert", pytest.param("nih", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_to_metrics(data: str, tmp_path: Path, device: str) -> None:
    over, findings, make, images = SETS[data]
    root = make(tmp_path / "data")
    workflow = partial(bundle_workflow, bundle(NAME))
    settings = {**SMALL, "device": torch.device(device), "output_dir": str(tmp_path / "run"), "dataset_dir": str(root)}
    run(workflow("train", "train.json", *over, **TRAIN, **settings))
    run(workflow("train", "train.json", "evaluate.json", *over, num_draws=2, **settings))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert next(iter(results["test"].values()))["num_images"] == images
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert described["model"]["classes"] == list(findings)
    assert sum(described["training"]["data"]["train"]["unknown"].values()) == (11 if data == "chexpert" else 0)
    films = tmp_path / "films"
    films.mkdir()
    for number, path in enumerate(sorted([*root.rglob("*.png"), *root.rglob("*.jpg")])[:2]):
        (films / f"{number}{path.suffix}").write_bytes(path.read_bytes())
    of_use = {key: value for key, value in settings.items() if key != "num_workers"}
    of_use |= {"dataset_dir": str(films), "output_dir": str(tmp_path / "out"), "num_draws": 2}
    run(workflow("infer", "inference.json", *over, checkpoint=str(tmp_path / "run" / "model.pt"), **of_use))
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == 2 and all(any(finding in column for column in rows[0]) for finding in findings)


def test_full_size_network_and_its_options() -> None:
    opened = open_bundle(bundle(NAME), "train.json", device="cpu")
    with torch.device("meta"):
        network = opened.get("denoiser").eval()
        image, states = torch.zeros(1, 1, 128, 128), torch.zeros(1, 14, dtype=torch.int64)
        assert network(image, torch.zeros(1), class_labels=states).shape == image.shape
    assert opened.get("num_classes") == 14
    load = opened.get("load")
    assert load.keywords == {
        "findings": list(CHEXPERT),
        "views": "frontal",
        "uncertain": "unknown",
        "blank": "zeros",
        "validation": "hash",
        "allow_missing": False,
    }
    over = open_bundle(bundle(NAME), "train.json", "nih.json", device="cpu")
    assert over.get("load").keywords["findings"] == list(NIH) and over.get("num_classes") == 14
    verify_metadata(
        meta_file=str(bundle(NAME) / "configs" / "metadata.json"),
        filepath=str(Path(__file__).with_name("metadata_schema.json")),
    )


@pytest.mark.parametrize("data", SETS)
def test_absent_data_says_where_to_get_it_and_under_which_terms(data: str, tmp_path: Path) -> None:
    settings = {**SMALL, "dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "run")}
    with pytest.raises(RuntimeError) as failure:
        run(bundle_workflow(bundle(NAME), "train", "train.json", *SETS[data][0], **settings))
    said = "\n".join(causes(failure.value))
    assert ("aimi.stanford.edu" if data == "chexpert" else "nihcc.app.box.com") in said
