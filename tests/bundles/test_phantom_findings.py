"""The bundle of two findings: training, evaluation, fit, report and classification by commands, and its weights."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_diffclf.bundle import open_bundle, read_settings, write_bundle
from monai_diffclf.classification import by_finding
from monai_diffclf.commands import main
from monai_diffclf.data import make_findings_phantoms
from monai_diffclf.handlers import read_results
from monai_diffclf.handlers.publish import entries
from monai_diffclf.inferers import MultiLabelClassifierInferer
from monai_diffclf.networks import network_hash
from monai_diffclf.run import run_bundle
from monai_diffclf.storage import save_errors
from tests.bundles.conftest import bundle as shipped
from tools.recompute_results import recompute_metrics

NAME = "phantom_findings_diffusion"
TINY = {
    "max_epochs": 1,
    "val_interval": 1,
    "batch_size": 16,
    "val_draws": 4,  # one of them at a level that its learned weights count
    "num_draws": 2,
    "denoiser#channels": [16, 16],
    "denoiser#attention_levels": [False, False],
    "denoiser#num_head_channels": 16,
    "num_images": {"train": 64, "validation": 40, "test": 40},
    "phantom_seeds": {"train": 90, "validation": 91, "test": 92},
}


def ended(capsys, *words) -> tuple[int, dict]:
    """Exit code and result of a command."""
    capsys.readouterr()
    code = main([*map(str, words), "--json", "--no-progress"])
    printed = capsys.readouterr()
    assert printed.out, printed.err[-2000:]
    return code, json.loads(printed.out.splitlines()[-1])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The same bundle, smaller."""
    settings = read_settings(shipped(NAME))
    parts = [part for part in settings.parts if part != "weights"]
    configs = {name: dict(content) for name, content in settings.configs.items()}
    for key in ("num_images", "phantom_seeds"):
        configs["train.json"][key] = TINY[key]
    values = {**settings.values, **{name: value for name, value in TINY.items() if name not in configs["train.json"]}}
    made = replace(settings, parts=parts, configs=configs, values=values)
    return write_bundle(tmp_path_factory.mktemp("bundles") / NAME, made)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for phantom in make_findings_phantoms(3, seed=93):
        matplotlib.image.imsave(folder / f"{phantom['key']}.png", phantom["image"][0], cmap="gray", vmin=0, vmax=1)
    return folder


def test_by_commands_from_training_to_a_table(small, films, capsys, tmp_path):
    assert ended(capsys, "train", small)[0] == 0
    code, judged = ended(capsys, "evaluate", small)
    assert code == 0, judged
    run = small / "runs" / "seed_0"
    results = json.loads((run / "results.json").read_text())["test"]
    for finding in ("nodule", "effusion"):
        assert 0 <= results[f"diffusion_mean, {finding}"]["auc"]["value"] <= 1
    code, fitted = ended(capsys, "fit", small)
    assert code == 0 and set(fitted["findings"]) == {"nodule", "effusion"}
    assert (run / "findings" / "finding_1.json").is_file()
    code, done = ended(capsys, "report", small)
    page = Path(done["path"]).read_text(encoding="utf-8")
    assert code == 0 and done["without"] == []
    for name in ("nodule", "effusion"):
        assert f">{name}</h1>" in page and f"no {name}" in page
    assert "Where is each finding seen?" in page and "data:image/png" in page
    assert "Logistic regression on 16 x 16 pixels" in page
    publish_is_the_runs(small, run, capsys)
    code, done = ended(capsys, "classify", films, "--bundle", small, "--output", tmp_path / "classified")
    assert code == 0 and done["calibrated"]
    rows = list(csv.DictReader((tmp_path / "classified" / "predictions.csv").open()))
    assert len(rows) == 3
    for row in rows:
        assert 0 <= float(row["probability_nodule"]) <= 1 and 0 <= float(row["probability_effusion"]) <= 1
        assert set(row["prediction_set_effusion"].split(";")) <= {"absent", "present"}
        assert row["network_evaluations"] == "8"
    assert done["classes"] == {name: sum(name in row["predicted"] for row in rows) for name in ("nodule", "effusion")}
    assert "nodule" in (tmp_path / "classified" / "cases.html").read_text(encoding="utf-8")
    code, refused = ended(capsys, "fit", small, "--decision")
    assert code != 0 and "decision: expected errors of at least 50 draws an image" in refused["error"]
    code, refused = ended(capsys, "fit", small, "--cascade", run)
    assert code != 0 and "--cascade: expected none for several findings" in refused["error"]
    code, refused = ended(
        capsys, "classify", films, "--bundle", small, "--output", tmp_path / "p", "--set", "prior=[.5]"
    )
    assert code != 0 and "prior: expected one number a finding, [2], got [1]" in refused["error"]


def publish_is_the_runs(bundle, run, capsys):
    """What is published are the run's results, and they follow from the published tables."""
    code, done = ended(capsys, "publish", bundle, "--run", run)
    assert code == 0 and len(done["published"]) == 8
    docs, own = read_results(bundle / "docs" / "results.json"), read_results(run / "results.json")
    for split, model, entry in entries(docs):
        assert entry["auc"] == own[split][model]["auc"] and entry["threshold"] == own[split][model]["threshold"]
    for number in range(2):
        for name in ("errors_test_seed_0.npz", "test_diffusion_mean_seed_0.csv"):
            path = Path("evaluation", f"finding_{number}", name)
            assert (bundle / "docs" / path).read_bytes() == (run / path).read_bytes()
    same, changed, added = recompute_metrics(bundle / "docs")
    assert same and not added and not [name for name in changed if name.endswith(("/value", "/low", "/high"))]


def test_maps_are_a_file_a_finding(small, films, capsys, tmp_path):
    if not (small / "runs" / "seed_0" / "model.pt").is_file():
        assert ended(capsys, "train", small)[0] == 0
    code, done = ended(capsys, "classify", films, "--bundle", small, "--output", tmp_path / "c", "--maps", "npy")
    assert code == 0
    arrays = {path.name.removesuffix(".npy"): np.load(path) for path in sorted(Path(done["maps"]).glob("*.npy"))}
    assert [each.shape for each in arrays.values()] == [(32, 32)] * 6
    rows = list(csv.DictReader(Path(done["table"]).read_text(encoding="utf-8").splitlines()))
    named = [row[f"map_{name}"] for row in rows for name in ("nodule", "effusion")]
    assert named == [f"maps/{name}.npy" for name in arrays]
    nifti = tmp_path / "films"
    nifti.mkdir()
    affine = np.diag([-0.5, -2.0, 3.0, 1.0])  # stored from left to right and from front to back: turned when read
    affine[:3, 3] = (10, 20, 30)
    for path in films.glob("*.png"):
        pixels = matplotlib.image.imread(path)[..., 0].T[:, :, None]
        nibabel.save(nibabel.Nifti1Image((255 * pixels).astype(np.uint8), affine), nifti / f"{path.stem}.nii.gz")
    code, done = ended(capsys, "classify", nifti, "--bundle", small, "--output", tmp_path / "n", "--maps", "nifti")
    assert code == 0
    files = sorted(Path(done["maps"]).glob("*.nii.gz"))
    assert [path.name.removesuffix(".nii.gz") for path in files] == list(arrays)
    for path in files:
        image = nibabel.load(path)
        np.testing.assert_array_equal(image.affine, affine)
        assert image.shape == (32, 32, 1) and image.get_data_dtype() == np.float32


@pytest.fixture
def learned(small, capsys, tmp_path) -> Path:
    """A run whose validation errors, of 60 draws, are such that the draws of a finding agree."""
    trained = small / "runs" / "seed_0"
    if not (trained / "model.pt").is_file():
        assert ended(capsys, "train", small)[0] == 0
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.pt", "model.json"):
        shutil.copy(trained / name, run / name)
    bundle = open_bundle(small, "train.json", "evaluate.json", run=run, num_draws=60, device="cpu", progress=False)
    rng, inferer, count = np.random.default_rng(0), bundle.get("evaluate#inferer"), 120
    labels = rng.integers(0, 2, (count, 2))
    values = 0.3 + 0.005 * rng.standard_normal((count, 2, 2, 60))
    values[np.arange(count)[:, None], np.arange(2), labels] -= rng.uniform(0.002, 0.02, (count, 2))[..., None]
    errors = by_finding(inferer.errors_from_values(torch.tensor(values).flatten(1, 2).float(), 1024))
    network = {"network": network_hash(bundle.network)}
    for finding in range(2):
        own = {"keys": [f"film {i}" for i in range(count)], "provenance": network | {"finding": finding}}
        path = run / "evaluation" / f"finding_{finding}" / "errors_validation_seed_0.npz"
        save_errors(path, errors[finding::2], labels=torch.from_numpy(labels[:, finding]), **own)
    return run


@pytest.mark.slow
def test_draws_are_spent_by_what_all_findings_taught(small, learned, films, capsys, tmp_path):
    code, fitted = ended(capsys, "fit", small, "--run", learned, "--decision")
    assert code == 0, fitted
    told = json.loads((learned / "decision.json").read_text())
    assert fitted["stopping"]["disagreement"] <= 0.01 and fitted["stopping"]["patients"] == 120
    assert set(told["findings"]) == {"nodule", "effusion"}
    assert all(each["evaluations"] < 120 for each in told["findings"].values())
    values = {"dataset_dir": films, "checkpoint": learned / "model.pt", "device": "cpu"}
    spent = {}
    for name, draws in (("fast.json", 60), ("few_draws.json", 1)):
        output = tmp_path / name
        run_bundle(small, ("inference.json", name), {**values, "output_dir": output, "num_draws": draws})
        rows = list(csv.DictReader((output / "predictions.csv").read_text(encoding="utf-8").splitlines()))
        spent[name] = [int(row["network_evaluations"]) for row in rows]
        assert all(row["decided"] == "true" and 0 <= float(row["probability_nodule"]) <= 1 for row in rows)
    assert len(spent["fast.json"]) == 3 and all(count <= 240 for count in spent["fast.json"])
    assert spent["few_draws.json"] == [4, 4, 4]


def test_a_finding_without_any_positive_ends_the_training_in_one_line(small, capsys, tmp_path):
    code, refused = ended(
        capsys, "train", small, "--output", tmp_path / "r", "--set", "population={'prevalence':[0,.5]}"
    )
    assert code != 0
    assert "train: expected images with and without each finding, got none with nodule" in refused["error"]
    assert not (tmp_path / "r" / "model.pt").exists()
    code, refused = ended(capsys, "train", small, "--output", tmp_path / "r", "--set", "classes=['a','b','c']")
    assert code != 0 and "expected a state for each of the 3 findings ['a', 'b', 'c'], got [2]" in refused["error"]


def test_the_shipped_weights_find_both_and_point_at_them(device):
    bundle = open_bundle(NAME, num_draws=9, device=str(device))
    assert isinstance(bundle.inferer, MultiLabelClassifierInferer)
    phantoms = make_findings_phantoms(60, seed=94)
    images = torch.stack([torch.as_tensor(phantom["image"]) for phantom in phantoms]) * 2 - 1
    result = bundle.classify(images, error_maps=True)
    labels = np.stack([phantom["truth"] for phantom in phantoms])
    for finding in range(2):
        assert roc_auc_score(labels[:, finding], result.probabilities[:, finding].cpu().numpy()) > 0.65
        present = labels[:, finding] == 1
        peaks = result.finding_maps[:, finding].flatten(1).argmax(1).cpu().numpy()
        masks = np.stack([phantom["mask"] for phantom in phantoms]).reshape(60, 2, -1)
        own, other = (
            np.mean([masks[i, which, peaks[i]] for i in np.flatnonzero(present)]) for which in (finding, 1 - finding)
        )
        assert own > 0.6 and own > 3 * other
