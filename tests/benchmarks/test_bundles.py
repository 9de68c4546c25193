"""Bundles are read as MONAI's command reads them, from any folder."""

from __future__ import annotations

import json

import pytest

from benchmarks.bundles import BUNDLES, read_config


@pytest.fixture
def bundle(tmp_path):
    """A bundle of two files, of which the second speaks over the first."""
    (tmp_path / "configs").mkdir()
    train = {"bundle_root": ".", "size": 4, "area": "$@size ** 2", "file": "$@bundle_root + '/model.pt'"}
    (tmp_path / "configs" / "train.json").write_text(json.dumps(train))
    (tmp_path / "configs" / "evaluate.json").write_text(json.dumps({"size": 5}))
    return tmp_path


def test_later_files_and_settings_hold(bundle):
    assert read_config(bundle).get_parsed_content("area") == 16
    assert read_config(bundle, "train.json", "evaluate.json").get_parsed_content("area") == 25
    assert read_config(bundle, "train.json", "evaluate.json", size=6).get_parsed_content("area") == 36
    assert read_config(bundle).get_parsed_content("file") == f"{bundle}/model.pt"


def test_noise_schedules_of_a_shipped_bundle_are_known():
    scheduler = read_config(BUNDLES / "pneumonia_xray_diffusion").get_parsed_content("scheduler")
    assert scheduler.alphas_cumprod.diff().max() < 0
