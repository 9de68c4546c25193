"""A cascade of two bundles through MONAI's command: who answered stands in the table."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from monai.transforms import Compose, ScaleIntensityRanged

from monai_diffclf.bundle import open_bundle, open_first
from monai_diffclf.inferers import CascadeInferer
from monai_diffclf.networks import network_hash
from monai_diffclf.storage import FittedCascade, save_cascade
from tests.bundles.conftest import bundle
from tests.bundles.workflows import bundle_workflow, run

SECOND, FIRST = bundle("pneumonia_xray_diffusion"), bundle("pneumonia_xray_resnet18")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet that was not trained: its weights are enough to see where images go."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    torch.save(open_bundle(FIRST, "train.json").get("network_def").state_dict(), folder / "model.pt")
    return folder


@pytest.mark.filterwarnings("ignore:.*model.json")
def test_who_is_sure_answers(first_run: Path, image_folder: Path, tmp_path: Path) -> None:
    images = image_folder / "test" / "normal"
    settings = {"first": str(FIRST), "first_run": str(first_run), "num_draws": 3, "device": "cpu"}
    opened = open_bundle(SECOND, "inference.json", "cascade.json", deferral=str(tmp_path / "deferral.json"), **settings)
    cheap = opened.get("first_bundle")
    files = sorted(images.iterdir())
    sure = cheap.classify(cheap.read(files)).probabilities.amax(1)
    threshold = float(sure.sort().values[len(sure) // 2])
    hashes = {"first": network_hash(cheap.network), "second": network_hash(opened.network)}
    hashes["provenance"] = opened.get("fitted_for")
    save_cascade(tmp_path / "deferral.json", {"mean": FittedCascade("mean", threshold, **hashes)})
    assert isinstance(opened.inferer, CascadeInferer)
    result = opened.classify(files)
    # The ResNet sees its own images, without the padding of the diffusion classifier.
    torch.testing.assert_close(result.first.probabilities.amax(1), sure, atol=1e-5, rtol=0)
    assert 0 < int(result.deferred.sum()) < len(files)

    more = {"deferral": str(tmp_path / "deferral.json"), "dataset_dir": str(images), "progress": False}
    made = bundle_workflow(
        SECOND,
        "infer",
        "inference.json",
        "cascade.json",
        output_dir=str(tmp_path / "out"),
        **{**settings, **more, "device": torch.device("cpu")},
    )
    run(made)
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    deferred = [rows[path.name]["deferred"] == "true" for path in files]
    spent = [int(rows[path.name]["network_evaluations"]) for path in files]
    assert deferred == result.deferred.tolist() and spent == [7 if each else 1 for each in deferred]


def test_refusals(first_run: Path) -> None:
    known = {"classes": ["normal", "pneumonia"], "channels": 1}
    with pytest.raises(ValueError, match="first: expected the folder or name of a bundle that answers first"):
        open_first(None, **known)
    with pytest.raises(ValueError, match="first: expected the classes"):
        open_first(FIRST, first_run, classes=["pneumonia", "normal"], channels=1)
    with pytest.raises(ValueError, match="first: expected a bundle with a SoftmaxClassifierInferer"):
        open_first(SECOND, **known)
    scaled = Compose([ScaleIntensityRanged("image", a_min=0, a_max=255, b_min=-1, b_max=1, clip=True)])
    with pytest.raises(ValueError, match=r"first: expected images scaled from \(0.0, 255.0\) to \(-1.0, 1.0\)"):
        open_first(FIRST, first_run, preprocessing=scaled, **known)


@pytest.mark.filterwarnings("ignore:.*model.json")
def test_a_run_brings_its_own_fit_of_a_cascade(first_run: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(SECOND / "models", run_folder)
    settings = {"first": str(FIRST), "first_run": str(first_run), "device": "cpu"}
    opened = open_bundle(SECOND, "inference.json", "cascade.json", deferral=str(tmp_path / "none.json"), **settings)
    hashes = {"first": network_hash(opened.get("first_bundle").network), "second": network_hash(opened.network)}
    made_by = {**opened.get("fitted_for"), "num_draws": 51}
    save_cascade(run_folder / "deferral.json", {"mean": FittedCascade("mean", 0.875, provenance=made_by, **hashes)})
    found = open_bundle(SECOND, "inference.json", "cascade.json", run=run_folder, **settings).inferer
    assert isinstance(found, CascadeInferer) and found.threshold == 0.875
    for other in ({"num_draws": 11}, {"temperature": 3.0}, {"weighting": "elbo"}):
        opened = open_bundle(SECOND, "inference.json", "cascade.json", run=run_folder, **settings, **other)
        with pytest.raises(Exception, match=f"another model: .*{next(iter(other))}: expected"):
            _ = opened.inferer
    save_cascade(run_folder / "deferral.json", {"mean": FittedCascade("mean", 0.875, **hashes)})
    opened = open_bundle(SECOND, "inference.json", "cascade.json", run=run_folder, **settings)
    with pytest.raises(Exception, match="does not say which network it was fitted for"):
        _ = opened.inferer
