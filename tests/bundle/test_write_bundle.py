"""A bundle is written whole or not at all, for any classes, and MONAI's own commands accept it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import verify_metadata, verify_net_in_out

from monai_diffclf.bundle import BundleSettings, check_agreement, open_bundle, read_settings, write_bundle

SCHEMA = Path(__file__).parents[1] / "bundles" / "metadata_schema.json"
SMALL = {
    "denoiser#channels": [8, 8],
    "denoiser#attention_levels": [False, False],
    "denoiser#norm_num_groups": 4,
    "denoiser#num_head_channels": 8,
    "denoiser#num_res_blocks": 1,
}


def settings(**changes: Any) -> BundleSettings:
    values = {"name": "mine", "classes": ["a", "b"], "channels": 1, "image_size": 32, "values": SMALL}
    return BundleSettings(**values | changes)


@pytest.mark.parametrize("method", ["diffusion", "score", "resnet18"])
def test_monai_accepts_it(method: str, tmp_path: Path, device: str) -> None:
    made = write_bundle(tmp_path / "new" / "mine", settings(method=method, values={}, image_size=[20, 44], channels=3))
    configs = made / "configs"
    verify_metadata(meta_file=str(configs / "metadata.json"), filepath=str(SCHEMA))
    few = {"diffusion": {"num_draws": 2}, "score": {"num_steps": 4}, "resnet18": {}}[method]
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device=device,
        **few,
    )
    assert (made / "models").is_dir() and "20 x 44" in (made / "docs" / "README.md").read_text()
    check_agreement(made)


@pytest.mark.parametrize("method", ["score", "resnet18"])  # of diffusion: tests/bundles/test_pneumonia_diffusion.py
def test_what_may_be_wrong_with_an_image_stands_beside_its_class(method: str, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "mine", settings(method=method, values={}))
    opened = open_bundle(made)
    item = opened.get("preprocessing")({"image": np.full((40, 40), 7, np.uint8), "key": "flat"})
    said = opened.get("postprocessing")(item)["warnings"]
    assert said.startswith("every pixel has the same value")


def test_a_network_of_volumes_keeps_no_matrix_of_all_pairs_of_positions(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "mine", settings(image_size=[32, 32, 32], parts=["volumes"]))
    network = open_bundle(made, "train.json").get("denoiser")
    assert network.spatial_dims == 3 and network.unet.middle_block.attention.attn.use_flash_attention


def test_settings_are_stored_and_make_the_same_bundle_again(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "one", settings(values={**SMALL, "max_epochs": 3, "num_draws": 7}))
    second = write_bundle(tmp_path / "two", read_settings(first))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_value_is_set_wherever_its_id_is(tmp_path: Path) -> None:
    values = {**SMALL, "num_draws": 7, "max_epochs": 3, "dataset_dir": "/images"}
    made = write_bundle(tmp_path / "mine", settings(values=values))
    configs = {path.name: json.loads(path.read_text()) for path in (made / "configs").glob("*.json")}
    assert configs["train.json"]["denoiser"] == configs["inference.json"]["denoiser"]
    assert [configs[name]["num_draws"] for name in ("evaluate.json", "inference.json", "fast.json")] == [7, 7, 501]
    assert configs["train.json"]["dataset_dir"] == "/images" != configs["inference.json"]["dataset_dir"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": {"max_epoch": 3}}, "no max_epoch; did you mean max_epochs"),
        ({"values": {"max_epochs": 2.5}}, "expected a whole number as max_epochs"),
        ({"values": {"balanced": 1}}, "expected True or False as balanced"),
        ({"values": {"denoiser#channels": 32}}, "expected a list as denoiser#channels"),
        ({"values": {"data_name": "$__import__('os').abort()"}}, "would take for code"),
        ({"values": {"data_name": {"_target_": "os.abort"}}}, "got a component"),
        ({"values": {"denoiser#norm_num_groups": 7}}, "values: expected a network that can be built"),
        ({"values": {"classes": ["c", "d"]}}, "classes is a setting of its own"),
        ({"values": {"learning_rate": float("nan")}}, "values: expected plain values as learning_rate"),
        ({"values": {"device": "cpu"}}, "values: expected plain values as device"),
        ({"configs": {"../../train.json": {}}}, "configs: expected names of files"),
        ({"classes": ["a"]}, "two or more"),
        ({"classes": ["a", "b;c"]}, "names without ';'"),
        ({"classes": ["a", "none"], "parts": ["findings"]}, "findings by another name than 'none'"),
        ({"classes": ["a", "A "]}, "differ in more than case"),
        ({"classes": ["a", "$import os"]}, "would take for code"),
        ({"classes": ["a", "@seed"]}, "would take for code"),
        ({"classes": ["a", "%seed"]}, "would take for code"),
        ({"classes": ["a", "grade #2"]}, "which MONAI changes"),
        ({"classes": [str(n) for n in range(101)]}, "2 to 100 names, got 101"),
        ({"channels": 2}, "channels: expected one of 1, 3"),
        ({"image_size": 8}, "16 to 1024"),
        ({"image_size": [64, 64, 64]}, "16 to 1024"),
        ({"image_size": True}, "16 to 1024"),
        ({"method": "svm"}, "method: expected one of diffusion"),
        ({"name": "../mine"}, "name: expected"),
        ({"parts": ["nothing"]}, "parts: expected one of"),
    ],
)
def test_refuses_settings_and_leaves_nothing(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_bundle(tmp_path / "mine", settings(**changes))
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write_bundle(tmp_path / "mine", settings())
    with pytest.raises(ValueError, match="holds something"):
        write_bundle(tmp_path / "mine", settings())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="holds something"):
        write_bundle(tmp_path / "file", settings())


def test_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_bundle(tmp_path / "mine", settings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names", [["Ünïcode 猫", "b, c"], ['"quoted"', "it's"], [1, 0], ["a|b", "=1+1"], [f"class {n}" for n in range(100)]]
)
def test_names_of_classes_arrive_as_they_are(names: list[Any], tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "mine", settings(classes=names))
    assert open_bundle(made).classes == open_bundle(made, "train.json").classes == [str(name) for name in names]
    labels = json.loads((made / "configs" / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert list(labels["channel_def"].values()) == [str(name) for name in names]


@pytest.mark.parametrize("size", [16, 17, 100, 1024, [16, 1024], [513, 31]])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_fits_the_network(size: Any, channels: int, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "mine", settings(image_size=size, channels=channels, values={}))
    bundle = open_bundle(made)
    stated = json.loads((made / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    sides = [size, size] if isinstance(size, int) else size
    multiple = bundle.get("pad_multiple")
    assert stated["spatial_shape"] == [multiple * -(-side // multiple) for side in sides]
    assert all(0 <= padded - side < multiple for padded, side in zip(stated["spatial_shape"], sides, strict=True))


def test_what_killed_processes_left_of_a_bundle_goes(tmp_path: Path) -> None:
    mine = tmp_path / ".mine-settings"  # of somebody, not of a process
    for folder in (tmp_path / ".mine.0123abcd.tmp", tmp_path / ".other.0123abcd.tmp", mine):
        (folder / "configs").mkdir(parents=True)
        os.utime(folder, (0, 0))
    write_bundle(tmp_path / "mine", settings())
    assert sorted(os.listdir(tmp_path)) == [".mine-settings", ".other.0123abcd.tmp", "mine"]
