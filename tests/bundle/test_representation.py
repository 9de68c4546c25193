"""A bundle on the features of an encoder, from training to the pages of new images; the encoder is a tiny one."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.bundle import BundleSettings, open_bundle, write_bundle
from monai_diffclf.classification import LevelWeights, mean_errors
from monai_diffclf.commands import main
from monai_diffclf.monailabel.bundle_model import BundleModel
from monai_diffclf.representations import load_space, save_space

TINY = {"_target_": "tests.representations.tiny_encoder.make_tiny_encoder"}
VALUES = {
    "num_components": 4,
    "grid": [4, 4],
    "denoiser#hidden_size": 16,
    "denoiser#num_layers": 1,
    "denoiser#num_heads": 2,
    "max_epochs": 2,
    "val_interval": 1,
    "val_draws": 3,
    "num_draws": 5,
    "batch_size": 16,
    "views": 2,
    "warmup_steps": 1,
}


def make_settings(data: Path, **values) -> BundleSettings:
    of_use = {"space": {"encoder": TINY}}
    return BundleSettings(
        name="tiny",
        classes=["bright", "dark"],
        channels=1,
        image_size=32,
        method="representation",
        values={**VALUES, "dataset_dir": str(data), **values},
        configs={"train.json": {"encoder": TINY}, "evaluate.json": of_use, "inference.json": of_use},
    )


def write_images(folder: Path, counts: dict[str, int]) -> Path:
    """Noise on a bright or a dark ground, of nobody."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for name, level in (("bright", 160), ("dark", 90)):
            place = folder / split / name if split else folder
            place.mkdir(parents=True, exist_ok=True)
            for n in range(count):
                pixels = np.clip(rng.normal(level, 30, (32, 32)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{name}_{n}.png")
    return folder


def run(*words: object) -> int:
    return main([*map(str, words), "--no-progress"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A bundle that was trained and evaluated."""
    place = tmp_path_factory.mktemp("representation")
    data = write_images(place / "data", {"train": 24, "val": 14, "test": 6})
    bundle = write_bundle(place / "tiny", make_settings(data))
    assert run("train", bundle, "--device", "cpu") == 0
    assert run("evaluate", bundle, "--device", "cpu") == 0
    assert run("fit", bundle) == 0
    return bundle


def seed_0(bundle: Path) -> Path:
    return bundle / "runs" / "seed_0"


def test_weights_and_results_say_which_features_they_are_of(trained):
    space = load_space(seed_0(trained) / "representation.pt", open_bundle(trained, "train.json").get("encoder"))
    described = json.loads((seed_0(trained) / "model.json").read_text())["model"]
    assert described["latent_space"] == {"encoder": "tiny", "training": "frozen", "version": space.version}
    assert described["network"]["class"] == "DiT"
    results = json.loads((seed_0(trained) / "results.json").read_text())
    assert {entry["representation"] for entry in results["test"].values()} == {"tiny, frozen"}


def test_a_finished_stage_is_not_repeated(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "tiny")
    before = {path.name: path.stat().st_mtime_ns for path in seed_0(copy).iterdir() if path.suffix in (".npz", ".pt")}
    latents = (seed_0(copy) / "latents" / "views" / "latents.f32").read_bytes()
    assert run("train", copy, "--device", "cpu", "--epochs", 3) == 0
    after = {path.name: path.stat().st_mtime_ns for path in seed_0(copy).iterdir()}
    assert all(after[name] == before[name] for name in ("representation.pt", "nearest.npz"))
    assert (seed_0(copy) / "latents" / "views" / "latents.f32").read_bytes() == latents


def test_weights_are_refused_with_another_space(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "tiny")
    path = seed_0(copy) / "representation.pt"
    other = load_space(path, open_bundle(copy, "train.json").get("encoder"))
    images = torch.rand(40, 1, 32, 32, generator=torch.Generator().manual_seed(5))
    save_space(path, type(other)(other.encoder, num_components=4).fit([images]))
    with pytest.raises(ValueError, match="the weights in .* are of another model .*latent_space version: made with"):
        _ = open_bundle(copy, run=seed_0(copy), device="cpu").network


def test_maps_lie_on_the_image(trained):
    bundle = open_bundle(trained, run=seed_0(trained), device="cpu")
    files = sorted((trained.parent / "data" / "test" / "dark").iterdir())[:3]
    result = bundle.classify(files, error_maps=True)
    assert result.error_maps.shape == (3, 2, 32, 32) and bundle.calibrated
    # Laid over the image and smoothed, the 16 cells still add up to the errors under the weights of maps.
    whole = result.error_maps.double().flatten(2).sum(2) / 16
    expected = mean_errors(result.errors, bundle.inferer.map_weighting)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)


def test_what_needs_a_decoder_names_retrieval(trained):
    bundle = open_bundle(trained, "inference.json", "counterfactuals.json", run=seed_0(trained), device="cpu")
    with pytest.raises(ValueError, match="expected one with decode, which counterfactuals need, .*Retrieval"):
        bundle.get("counterfactuals")


def test_new_images_get_a_page_with_the_nearest_training_images(trained, tmp_path):
    new = write_images(tmp_path / "new", {"": 2})
    for output in ("one", "two"):
        words = ["classify", new, "--bundle", trained, "--output", tmp_path / output, "--device", "cpu"]
        assert run(*words) == 0
    tables = [(tmp_path / output / "predictions.csv").read_bytes() for output in ("one", "two")]
    assert tables[0] == tables[1]
    with (tmp_path / "one" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and all(row["ood_p_value"] for row in rows)
    page = (tmp_path / "one" / "cases.html").read_text(encoding="utf-8")
    assert (
        page.count('"asClass":null') == 12 and page.count('"asClass":') == 24
    )  # three as it is, three edited, of four
    assert '"key":"train/bright/bright_' in page and '"picture":"data:image' in page
    assert run("report", trained) == 0
    assert "tiny, frozen" in (seed_0(trained) / "report.html").read_text(encoding="utf-8")


def test_the_monai_label_app_serves_it(trained):
    model = BundleModel(trained)
    outcome = model.classify(model.read(next((trained.parent / "data" / "test" / "bright").iterdir())))
    assert outcome.map.shape == (32, 32) and bool(outcome.map.isfinite().all())
    assert 0 < outcome.item["ood_p_value"] <= 1


@pytest.fixture(scope="module")
def judged_otherwise(trained, tmp_path_factory) -> Path:
    """A copy that was evaluated with other draws, rule and weighting than the bundle's, and fitted."""
    copy = shutil.copytree(trained, tmp_path_factory.mktemp("otherwise") / "tiny")
    settings = ["--set", "weighting=learned", "--set", "temperature=0.5", "--set", "rule=vote"]
    assert run("evaluate", copy, "--device", "cpu", "--draws", 4, *settings) == 0
    assert run("fit", copy) == 0
    return copy


def test_a_fit_goes_by_the_evaluation_and_inference_by_the_fit(judged_otherwise, tmp_path, capsys):
    """What was given to evaluate by --set needs not be said again."""
    copy, folder = judged_otherwise, seed_0(judged_otherwise)
    result = json.loads((folder / "results.json").read_text())["validation"]["diffusion_mean"]
    fit = json.loads((folder / "uncertainty.json").read_text())
    assert fit["mean"]["provenance"]["weighting"] == result["weighting"] != "uniform"
    assert fit["settings"] == {"rule": "vote", "weighting": "learned", "temperature": 0.5}
    bundle = open_bundle(copy, run=folder, device="cpu")
    assert bundle.calibrated and isinstance(bundle.inferer.weighting, LevelWeights)
    assert (bundle.inferer.rule, bundle.inferer.num_draws) == ("vote", 4)
    assert bundle.inferer.temperature == result["temperature"]
    words = ["classify", write_images(tmp_path / "new", {"": 2}), "--bundle", copy, "--device", "cpu"]
    assert run(*words, "--output", tmp_path / "one") == 0
    with (tmp_path / "one" / "predictions.csv").open(newline="") as file:
        assert all(row["prediction_set"] for row in csv.DictReader(file))
    capsys.readouterr()
    assert run("report", copy) == 0
    assert "of another weighting" not in capsys.readouterr().out
    # Another weighting than that of the fit is never taken in silence.
    assert run(*words, "--output", tmp_path / "two", "--set", "weighting=uniform") == 2
    assert "was fitted for another model: weighting: expected 'uniform'" in capsys.readouterr().err


def test_a_laid_over_file_keeps_its_own_rule(judged_otherwise):
    run_folder = seed_0(judged_otherwise)
    bundle = open_bundle(judged_otherwise, "inference.json", "few_draws.json", run=run_folder, device="cpu")
    assert bundle.parser.get("rule") == "mean" and bundle.parser.get("weighting") == "learned"
    assert str(bundle.parser.get("temperature")).startswith("$")


def test_an_evaluation_without_settings_is_the_bundles_own_again(judged_otherwise, tmp_path, capsys):
    copy = shutil.copytree(judged_otherwise, tmp_path / "tiny")
    assert run("evaluate", copy, "--device", "cpu", "--draws", 4) == 0
    # The fit is of another weighting now, which is told; it is still what inference goes by.
    assert run("report", copy) == 0
    assert "of another weighting or temperature: fit it again" in capsys.readouterr().out
    assert open_bundle(copy, run=seed_0(copy), device="cpu").inferer.rule == "vote"
    assert run("fit", copy) == 0
    assert "settings" not in json.loads((seed_0(copy) / "uncertainty.json").read_text())
    assert open_bundle(copy, run=seed_0(copy), device="cpu").inferer.weighting == "uniform"
    # Results that another command has written are not taken for those of the settings that are kept.
    (seed_0(copy) / "evaluated.json").write_text('{"weighting": "learned"}')
    assert run("fit", copy) == 2
    assert "expected an evaluation with weighting LevelWeights" in capsys.readouterr().err
    (seed_0(copy) / "evaluated.json").write_text('{"dataset_dir": "/"}')
    assert run("fit", copy) == 2
    assert "(expected names or numbers for some of rule, weighting, temperature)" in capsys.readouterr().err


def test_the_monai_label_app_takes_what_was_fitted(judged_otherwise):
    """Its draws, rule and weighting, as classify does."""
    model = BundleModel(judged_otherwise)
    assert model.draws == {"num_draws": 4, "rule": "vote"}
    image = model.read(next((write_images(judged_otherwise.parent / "one", {"": 1})).iterdir()))
    outcome = model.classify(image)
    assert not any("expected" in text for text in outcome.warnings) and "prediction_set" in outcome.item
    assert isinstance(outcome.inferer.weighting, LevelWeights)


def test_settings_of_another_encoder_are_refused(trained, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "tiny")
    assert run("train", copy, "--device", "cpu", "--set", "num_components=3") == 2
    assert "num_components: made with 4, asked for 3" in capsys.readouterr().err


def test_images_of_another_grid_are_refused(trained, tmp_path, capsys):
    bundle = write_bundle(tmp_path / "wide", make_settings(trained.parent / "data", grid=[7, 7]))
    assert run("train", bundle, "--device", "cpu") == 2
    assert "grid: expected [4, 4], what tiny makes of images of [32, 32] pixels, got [7, 7]" in capsys.readouterr().err
