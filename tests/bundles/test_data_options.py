"""What all bundles do alike with the data that a user names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_diffclf.bundle import open_bundle

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OWN_READER = {  # of one data set as it is distributed, and its own options
    "chest_xray_findings_diffusion": ("views", "uncertain", "blank", "allow_missing"),
    "chexpert_effusion_diffusion": ("protocol", "allow_missing"),
    "isic_melanoma_diffusion": ("protocol", "allow_missing"),
}
TRAINING = sorted(path.parent.parent.name for path in BUNDLES.glob("*/configs/train.json"))
OPTIONS = (
    "image_column",
    "label_column",
    "label_type",
    "split_column",
    "patient_column",
    "patient_pattern",
    "allow_shared_patients",
)


def parser(bundle: str, *files: str, **settings: object) -> ConfigParser:
    return open_bundle(bundle, *files, **settings).parser


def test_all_are_there():
    assert len(TRAINING) == 16


@pytest.mark.parametrize("bundle", TRAINING)
def test_names_of_classes_are_counted_whatever_the_command_line_made_of_them(bundle):
    for file in ("train.json", "inference.json"):
        if (BUNDLES / bundle / "configs" / file).exists():
            for classes in ("[01, 02]", [1, 0], ("a", "b"), "a,b"):
                assert parser(bundle, file, classes=classes).get_parsed_content("num_classes") == 2


@pytest.mark.parametrize("bundle", TRAINING)
def test_every_training_audits_its_data_first(bundle):
    configs = BUNDLES / bundle / "configs"
    for file in ("train.json", "multi_gpu_train.json", "multi_gpu_evaluate.json"):
        if (configs / file).exists():
            assert "@audit_data" in json.loads((configs / file).read_text())["initialize"]
            assert "$import functools" in parser(bundle, "train.json", "evaluate.json", file)["imports"]
    train, evaluate = (json.loads((configs / f"{name}.json").read_text()) for name in ("train", "evaluate"))
    assert train["audit"] is True
    assert "initialize" not in evaluate or "@audit_data" in evaluate["initialize"]
    assert train["audit_path"] != evaluate["audit_path"]


@pytest.mark.parametrize("bundle", [name for name in TRAINING if "phantom" not in name])
def test_options_reach_the_reader(bundle, tmp_path):
    assert parser(bundle, "train.json").config.get("download") is None
    names = OWN_READER.get(bundle, OPTIONS)
    values = {name: f"my {name}" for name in names}
    options = parser(bundle, "train.json", **values).get_parsed_content("load").keywords
    assert {name: options[name] for name in names} == values
    made = parser(bundle, "train.json", "evaluate.json", dataset_dir=str(tmp_path / "mistyped"))
    for part in ("train", "validate", "test"):
        with pytest.raises(RuntimeError) as error:
            made.get_parsed_content(f"{part}#datalist")
        asked = "root: expected .*mistyped, " if bundle in OWN_READER else "mistyped does not exist; expected"
        assert re.search(asked, str(error.value.__cause__))
    assert list(tmp_path.iterdir()) == []
