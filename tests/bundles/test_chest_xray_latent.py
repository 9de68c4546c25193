"""The bundle on the latents of an autoencoder that its user gives: by commands, refusals, and its weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import verify_metadata

from benchmarks.bundles import RESULTS
from monai_diffclf.bundle import open_bundle, read_settings, write_bundle
from monai_diffclf.commands import main
from monai_diffclf.monailabel.bundle_model import BundleModel
from tests.bundles.conftest import bundle as shipped
from tests.bundles.workflows import bundle_workflow, causes, run
from tests.data import kermany_trees
from tests.representations.test_autoencoder_bundle import write_autoencoder

NAME = "chest_xray_latent_diffusion"
SIZE = 32
TINY = {
    **{"grid": [4, 4], "num_components": 4, "denoiser#hidden_size": 16, "denoiser#num_layers": 1},
    **{"denoiser#num_heads": 2, "max_epochs": 1, "val_interval": 1, "val_draws": 1, "num_draws": 3, "views": 1},
    **{"batch_size": 16, "warmup_steps": 1},
}


def ended(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and result of a command."""
    capsys.readouterr()
    code = main([*map(str, words), "--json", "--no-progress"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, X-rays of noise, and the same bundle, smaller and trained on them."""
    folder = tmp_path_factory.mktemp("latent")
    write_autoencoder(folder / "autoencoder")
    write_autoencoder(folder / "another", seed=1)
    data = kermany_trees.tree(folder / "data", side=SIZE, splits=("train", "val", "test"), each=24)
    settings = read_settings(shipped(NAME))
    parts = [part for part in settings.parts if part not in ("weights", "fitted")]
    made = replace(settings, parts=parts, image_size=SIZE, values={**settings.values, **TINY})
    bundle = write_bundle(folder / NAME, made)
    overrides = {"dataset_dir": str(data), "autoencoder": str(folder / "autoencoder"), "progress": False}
    run(bundle_workflow(bundle, "train", "train.json", device=torch.device("cpu"), audit=False, **overrides))
    return folder


def words(place: Path, autoencoder: str | None = "autoencoder") -> list[object]:
    given = [] if autoencoder is None else ["--set", f"autoencoder={place / autoencoder}"]
    return ["--device", "cpu", *given]


def test_a_run_keeps_the_scaling_and_no_weights_of_the_autoencoder(place: Path) -> None:
    run_folder = place / NAME / "runs" / "seed_0"
    content = torch.load(run_folder / "representation.pt", weights_only=True)
    assert content["encoder"]["source"]["name"] == "given" and "taesd" in content["encoder"]["source"]["origin"]
    assert str(place) not in repr(content)
    assert not (run_folder / "nearest.npz").exists(), "counterfactuals are decoded, no neighbours are needed"
    described = json.loads((run_folder / "model.json").read_text())["model"]
    assert described["latent_space"] == {"version": content["version"]}
    bundle = open_bundle(place / NAME, run=run_folder, device="cpu", autoencoder=str(place / "autoencoder"))
    codes = bundle.inferer.latent_space.encode(torch.rand(2, 1, SIZE, SIZE) * 2 - 1)
    assert codes.shape == (2, 4, 4, 4)


def test_by_commands_from_evaluation_to_maps(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, images = place / NAME, place / "data"
    code, judged = ended(capsys, "evaluate", bundle, "--data", images, *words(place))
    assert code == 0 and 0 <= judged["test"]["diffusion_mean"]["auc"]["value"] <= 1, judged
    film = images / "images" / "IM-0049-0001.jpeg"
    more = ["--bundle", bundle, "--maps", "npy", "--output", tmp_path / "out"]
    code, found = ended(capsys, "classify", film, *more, *words(place))
    assert code == 0 and found["classified"] == 1, found
    (path,) = (tmp_path / "out" / "maps").glob("*.npy")
    assert np.load(path).shape[-2:] == (SIZE, SIZE), "maps are in pixels"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_counterfactuals_are_decoded(place: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(place / "data" / "images" / "IM-0049-0001.jpeg", some)
    settings = {"device": torch.device("cpu"), "progress": False, "dataset_dir": str(some)}
    settings |= {"checkpoint": str(place / NAME / "runs" / "seed_0" / "model.pt"), "calibrated": False}
    settings |= {"autoencoder": str(place / "autoencoder"), "output_dir": str(tmp_path / "out")}
    settings |= {"counterfactuals#num_steps": 2, "counterfactuals#guidance": 2.0}
    run(bundle_workflow(place / NAME, "infer", "inference.json", "counterfactuals.json", **settings))
    assert "counterfactual" in (tmp_path / "out" / "cases.html").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "autoencoder: expected the folder of TAEF2 (MIT)"),
        ("nowhere", "autoencoder: expected the folder of TAEF2 (MIT)"),
        ("another", "encoder: expected the autoencoder that"),
    ],
)
def test_none_or_another_autoencoder_is_refused_in_one_line(
    given: str | None, said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = place / "data" / "images" / "IM-0049-0001.jpeg"
    more = ["--bundle", place / NAME, "--output", tmp_path / "out"]
    code, refused = ended(capsys, "classify", film, *more, *words(place, given))
    assert code == 2 and refused["error"].startswith(said) and "\n" not in refused["error"], refused
    assert "--set autoencoder=FOLDER" in refused["error"] and "https://github.com/madebyollin/taesd" in refused["error"]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("predictions*"))


def test_training_without_it_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--data", place / "data", "--output", tmp_path / "run"]
    code, refused = ended(capsys, "train", place / NAME, *more, *words(place, None))
    assert code == 2 and refused["error"].startswith("autoencoder: expected the folder of TAEF2 (MIT)")
    assert not list((tmp_path / "run").glob("*.pt"))


def test_the_bundles_own_folder_may_hold_it(place: Path, tmp_path: Path) -> None:
    film = place / "data" / "images" / "IM-0049-0001.jpeg"
    bundle = shutil.copytree(place / NAME, tmp_path / NAME)
    with pytest.raises(RuntimeError) as refused:
        BundleModel(bundle, bundle / "runs" / "seed_0")
    assert any("put it into the bundle's folder models/autoencoder" in text for text in causes(refused.value))
    shutil.copytree(place / "autoencoder", bundle / "models" / "autoencoder")
    model = BundleModel(bundle, bundle / "runs" / "seed_0")
    outcome = model.classify(model.read(film))
    assert outcome.map.shape == (SIZE, SIZE) and bool(outcome.map.isfinite().all())


def test_metadata_fits_the_schema() -> None:
    schema = Path(__file__).with_name("metadata_schema.json")
    verify_metadata(meta_file=str(shipped(NAME) / "configs" / "metadata.json"), filepath=str(schema))


def test_what_is_shipped_is_ours_alone() -> None:
    models = shipped(NAME) / "models"
    assert sorted(path.name for path in models.iterdir()) == ["model.json", "model.pt", "representation.pt"]
    assert sum(path.stat().st_size for path in models.iterdir()) < 10e6
    content = torch.load(models / "representation.pt", weights_only=True)
    assert set(content) == {"format", "version", "encoder", "settings"}, "no weights of the autoencoder"
    assert content["settings"]["channels"] == 1 and content["version"].startswith("TinyAutoencoder ")
    assert content["version"] == json.loads((models / "model.json").read_text())["model"]["latent_space"]["version"]
    with pytest.raises(ValueError, match=r"^autoencoder: expected the folder of TAEF2 \(MIT\)"):
        _ = open_bundle(NAME, device="cpu").network


def test_the_shipped_weights_give_the_stored_probabilities(dataset: Any) -> None:
    films, autoencoder = dataset("kermany_cxr_224"), dataset("weights_taef2")
    stored = json.loads((RESULTS / "latent_bundle.json").read_text())["test"]["examples"]
    chosen = [next(iter(stored)), list(stored)[-1]]  # one of each class
    bundle = open_bundle(NAME, device="cpu", autoencoder=str(autoencoder))
    result = bundle.classify([films / key for key in chosen], error_maps=True)
    assert result.error_maps is not None and result.error_maps.shape == (2, 2, 128, 128)
    assert result.probabilities[:, 1].tolist() == pytest.approx([stored[key] for key in chosen], abs=2e-3)
