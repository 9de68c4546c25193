"""Several models in one server: diffusion and score classifiers, and what is left out."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from monai_diffclf.bundle import find_bundle, open_bundle
from monai_diffclf.monailabel.bundle_model import BundleModel
from monai_diffclf.monailabel.served_models import load_models
from tests.monailabel.example_images import make_picture, write_png
from tests.monailabel.started_server import StartedServer, detail, started

SCORE = "pneumonia_xray_score"


@pytest.fixture(scope="module")
def without_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose weights are not there."""
    folder = tmp_path_factory.mktemp("bundles") / "unfinished"
    shutil.copytree(find_bundle(SCORE), folder, ignore=shutil.ignore_patterns("model.pt"))
    return folder


@pytest.fixture(scope="module")
def server(
    monailabel: None, bundle: Path, without_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedServer]:
    """A server of two models and one that cannot be loaded."""
    root = tmp_path_factory.mktemp("several")
    (root / "studies").mkdir()
    write_png(root / "studies" / "image0.png", make_picture(0, (40, 50)))
    conf = {"bundle": f"{bundle}, {SCORE},{without_weights}"}
    with started(str(root / "studies"), root / "home", conf) as one:
        yield one


def test_score_model_answers_as_its_bundle_does(images: dict[str, Path], monailabel: None) -> None:
    from monai_diffclf.monailabel.infer_task import describe_outcome

    model = BundleModel(find_bundle(SCORE))
    expected = open_bundle(SCORE).classify(images["png"])
    outcome = model.classify(model.read(images["png"]))
    assert torch.allclose(outcome.item["pred"], expected.probabilities[0].cpu(), atol=1e-4)
    assert outcome.map.shape == (61, 47) and bool(outcome.map.any())
    reply = describe_outcome(outcome, model.classes)
    assert list(reply["log_likelihood"]) == model.classes and "vote_share" not in reply and "num_draws" not in reply
    json.dumps(reply, allow_nan=False)
    with pytest.raises(ValueError, match="num_draws: expected none for pneumonia_xray_score, which classifies by like"):
        model.classify(model.read(images["png"]), num_draws=5)


def test_each_is_a_model_of_its_own(server: StartedServer) -> None:
    info = server.request("GET", "/info/").json()
    classifiers = {name for name, model in info["models"].items() if model["type"] == "classification"}
    assert classifiers == {"pneumonia", SCORE} and info["labels"] == ["normal", "pneumonia"]
    assert "num_draws" not in info["models"][SCORE]["config"]
    assert list(info["models_left_out"]) == ["unfinished"]
    assert "the model unfinished is left out" in server.log.read_text()
    replies = {name: server.request("POST", f"/infer/{name}?image=image0&output=json").json() for name in classifiers}
    assert replies["pneumonia"]["num_draws"] == 3 and "log_likelihood" in replies[SCORE]
    refused = server.request("POST", f"/infer/{SCORE}?image=image0&output=json", data={"params": '{"num_draws": 5}'})
    assert refused.status_code == 422 and "makes no draws" in detail(refused)


@pytest.mark.parametrize("shows", ["class", "map"])
def test_viewers_are_offered_segmentations(server: StartedServer, tmp_path: Path, shows: str) -> None:
    model = server.request("GET", "/info/").json()["models"][f"pneumonia_{shows}"]
    assert model["type"] == "segmentation" and sorted(model["labels"].values()) == [1, 2]
    # As OHIF's extension asks.
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    path = f"/infer/pneumonia_{shows}?image=image0&output=image"
    file = tmp_path / "a.nrrd"
    file.write_bytes(server.request("POST", path, data={"params": json.dumps(asked)}).content)
    assert b"encoding: raw" in file.read_bytes()[:2000]
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
    reply = server.request("POST", path.replace("output=image", "output=json")).json()
    assert found.shape[-2:] == (40, 50) and reply["label_names"] == model["labels"]
    if shows == "class":
        assert set(np.unique(found)) == {model["labels"][reply["label"]]}
    else:
        assert set(np.unique(found)) <= {0, 1, 2} and len(np.unique(found)) > 1


def test_map_labels_are_the_strong_parts_of_the_map(bundle: Path, images: dict[str, Path], monailabel: None) -> None:
    from monai_diffclf.monailabel.segment_task import map_labels

    model = BundleModel(bundle)
    values = model.classify(model.read(images["png"])).map
    labels = map_labels(values)
    assert bool(((labels == 1) == (values >= values.abs().max() / 2)).all())
    assert bool(((labels == 2) == (-values >= values.abs().max() / 2)).all())
    assert not map_labels(torch.zeros(3, 4)).any()
    assert tuple(labels.shape) == (61, 47)


def test_what_cannot_be_loaded(
    bundle: Path, without_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monailabel: None
) -> None:
    with caplog.at_level(logging.WARNING):
        models = load_models([str(without_weights), str(bundle)])
    assert list(models.by_name) == ["pneumonia"] and models.first.folder == bundle.resolve()
    assert "unfinished" in caplog.text and list(models.left_out) == ["unfinished"]
    with pytest.raises(ValueError, match="none can be loaded: unfinished: .*; nowhere: "):
        load_models([str(without_weights), str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="expected folders of different names, got 'pneumonia' twice"):
        load_models([str(bundle), str(bundle)])
    with pytest.raises(ValueError, match="expected a bundle's folder, but there is no file"):
        load_models([str(tmp_path / "nowhere")])


def test_classes_of_several_models_are_merged(bundle: Path) -> None:
    merged = load_models([str(bundle), "skin_lesion_diffusion"]).classes
    assert merged == ["normal", "pneumonia", "nevus", "melanoma", "seborrheic_keratosis"]
