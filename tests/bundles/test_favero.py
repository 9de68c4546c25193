"""The bundles with the networks and the training of Favero et al.: from files as distributed to metrics."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import verify_metadata

from monai_diffclf.bundle import open_bundle
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.networks.schedulers.noise_schedules import shifted_cosine_log_snr
from tests.bundles.conftest import bundle
from tests.bundles.workflows import bundle_workflow, causes, run
from tests.data import favero_trees

NAMES = ("chexpert_effusion_diffusion", "isic_melanoma_diffusion")
SETTINGS: dict[str, Any] = {"progress": False, "device": torch.device("cpu"), "num_workers": 0, "image_size": [32, 32]}
TRAIN = {"max_epochs": 1, "val_interval": 1, "val_draws": 2, "batch_size": 8, "audit": False}
SMALL = {
    "unet": {
        "denoiser#channels": [8, 8],
        "denoiser#attention_levels": [False, True],
        "denoiser#num_head_channels": [8, 8],
        "denoiser#num_res_blocks": 1,
        "denoiser#norm_num_groups": 4,
        "denoiser#cross_attention_dim": 8,
    },
    "dit": {
        "denoiser#network#hidden_size": 16,
        "denoiser#network#num_layers": 2,
        "denoiser#network#num_heads": 2,
        "denoiser#network#num_class_embeds": 3,
    },
}


def files(network: str, *more: str) -> list[str]:
    return ["train.json", *more, *(["dit.json"] if network == "dit" else [])]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(zip(NAMES, favero_trees.trees(tmp_path_factory.mktemp("data")), strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("network", "millions"), [("unet", 275.8), ("dit", 147.7)])
def test_networks_and_training_are_those_of_favero_et_al(name: str, network: str, millions: float) -> None:
    opened = open_bundle(bundle(name), *files(network), device="cpu")
    with torch.device("meta"):
        made = opened.get("denoiser")
    assert round(sum(weight.numel() for weight in made.parameters()) / 1e6, 1) == millions
    training = {key: opened.get(key) for key in ("batch_size", "learning_rate", "label_dropout", "max_epochs")}
    assert training == {
        "batch_size": 128,
        "learning_rate": 1e-4,
        "label_dropout": 0.15,
        "max_epochs": 700 if network == "unet" else 512,
    }
    config = json.loads((bundle(name) / "configs" / "train.json").read_text())
    assert config["optimizer"]["_target_"] == "torch.optim.Adam" and config["augmentation"] == {}
    assert config["train"]["named_handlers"]["moving_average"]["limit"] == 0.999
    assert config["scheduler"]["prediction_type"] == "v_prediction" and config["image_size"] == [256, 256]
    verify_metadata(
        meta_file=str(bundle(name) / "configs" / "metadata.json"),
        filepath=str(Path(__file__).with_name("metadata_schema.json")),
    )


def test_levels_are_the_published_ones_of_halved_coefficients() -> None:
    """Images in [-1, 1] are twice what Favero et al. noise, whose levels are therefore lower by log 4."""
    scheduler = open_bundle(bundle(NAMES[0]), "train.json", device="cpu").get("scheduler")
    found = NoiseProcess.of(scheduler).log_snr(torch.arange(1000))
    published = shifted_cosine_log_snr(
        torch.linspace(0, 1, 1000, dtype=torch.float64), resolution=256, as_released=True
    )
    expected = published - torch.log(torch.tensor(4.0, dtype=torch.float64))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("name", "network", "protocol"),
    [
        (NAMES[0], "unet", "balanced"),
        (NAMES[0], "dit", "natural"),
        (NAMES[1], "unet", "within_source"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_to_metrics(
    name: str, network: str, protocol: str, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = partial(bundle_workflow, bundle(name))
    settings = {**SETTINGS, **SMALL[network], "dataset_dir": str(data[name]), "output_dir": str(tmp_path / "run")}
    settings["protocol"] = protocol
    run(workflow("train", *files(network), **TRAIN, **settings))
    run(workflow("train", *files(network, "evaluate.json"), num_draws=3, audit=False, **settings))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    entry = results["test"]["diffusion_vote"]
    assert {"value", "low", "high"} <= set(entry["auc"]) and protocol in json.dumps(results)
    if protocol == "natural":
        assert entry["num_images"] == 6
    if name == NAMES[1]:
        assert "0.500  an id below 100000 is a melanoma" in capsys.readouterr().out
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert described["model"]["network"]["class"].startswith("Wavelet")
    images = tmp_path / "images"
    images.mkdir()
    for n, path in enumerate(sorted(data[name].rglob("*.jpg"))[:2]):
        (images / f"{n}.jpg").write_bytes(path.read_bytes())
    of_use = {key: value for key, value in settings.items() if key not in ("protocol", "num_workers")}
    of_use |= {"dataset_dir": str(images), "output_dir": str(tmp_path / "out"), "num_draws": 3}
    over = ["inference.json", *(["dit.json"] if network == "dit" else [])]
    run(workflow("infer", *over, checkpoint=str(tmp_path / "run" / "model.pt"), **of_use))
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", NAMES)
def test_absent_data_says_where_to_get_it_and_under_which_terms(name: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as failure:
        run(
            bundle_workflow(
                bundle(name),
                "train",
                "train.json",
                dataset_dir=str(tmp_path),
                output_dir=str(tmp_path / "run"),
                **SETTINGS,
            )
        )
    said = "\n".join(causes(failure.value))
    assert ("research only" if name == NAMES[0] else "CC BY-NC 4.0") in said
