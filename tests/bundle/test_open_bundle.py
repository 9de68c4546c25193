"""A bundle is opened as MONAI's command reads it, with a run's weights, and no setting of it is ever evaluated."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.bundle import find_bundle, open_bundle, shipped_bundles
from monai_diffclf.classification import DenoisingClassification, LikelihoodClassification
from monai_diffclf.networks import network_hash

PHANTOMS = "phantom_xray_diffusion"
SHIPPED = (
    "mammography_score",
    "phantom_xray_diffusion",
    "pneumonia_xray_diffusion",
    "pneumonia_xray_resnet18",
    "pneumonia_xray_score",
    "skin_lesion_diffusion",
    "skin_lesion_resnet18",
)


@pytest.fixture
def pictures(tmp_path):
    """Two grey pictures."""
    paths = []
    for n in range(2):
        pixels = np.random.default_rng(n).integers(0, 256, (40, 36), dtype=np.uint8)
        paths.append(tmp_path / f"{n}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def run(tmp_path):
    """A run of the phantom bundle, whose weights are those that are shipped."""
    folder = tmp_path / "run"
    shutil.copytree(find_bundle(PHANTOMS) / "models", folder)
    return folder


def test_shipped_bundles_are_found_by_name():
    assert set(SHIPPED) <= set(shipped_bundles())
    assert all((folder / "configs" / "train.json").is_file() for folder in shipped_bundles().values())


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("files", [("train.json",), ("train.json", "evaluate.json")])
def test_every_shipped_bundle_opens(name, files):
    bundle = open_bundle(name, *files)
    assert bundle.name == name and bundle.root == shipped_bundles()[name]
    assert len(bundle.classes) >= 2 and bundle.channels in (1, 3) and len(bundle.image_size) == 2


def test_a_folder_of_the_name_comes_first(tmp_path, monkeypatch):
    shutil.copytree(find_bundle(PHANTOMS), tmp_path / PHANTOMS)
    monkeypatch.chdir(tmp_path)
    assert open_bundle(PHANTOMS).root == tmp_path / PHANTOMS


@pytest.mark.parametrize(("wrong", "near"), [("phantom_xray", "phantom_xray_diffusion"), ("nothing", "shipped are")])
def test_refuses_what_is_no_bundle(wrong, near):
    with pytest.raises(ValueError, match=near):
        open_bundle(wrong)


def test_refuses_files_and_settings_that_there_are_not():
    with pytest.raises(ValueError, match=r"such as inference.json, got inferense.json"):
        open_bundle(PHANTOMS, "inferense.json")
    with pytest.raises(ValueError, match=r"no num_draw; did you mean num_draws\?"):
        open_bundle(PHANTOMS, num_draw=3)
    with pytest.raises(ValueError, match=r"no denoiserr#channels"):
        open_bundle(PHANTOMS, **{"denoiserr#channels": [8]})


def test_settings_hold():
    bundle = open_bundle(PHANTOMS, num_draws=5, device="cpu", **{"inferer#seed": 3})
    assert (bundle.inferer.num_draws, bundle.inferer.seed, bundle.device) == (5, 3, torch.device("cpu"))


@pytest.mark.parametrize(
    "value", ["$__import__('os').abort()", "@seed", "%seed", ["a", "$b"], {"a": "@b"}, {"_target_": "os.abort"}, "a#b"]
)
def test_a_setting_is_never_evaluated(value):
    with pytest.raises(ValueError, match="expected plain"):
        open_bundle(PHANTOMS, dataset_dir=value)


def test_a_path_may_begin_as_code_does(tmp_path, monkeypatch, pictures):
    folder = tmp_path / "$HOME"
    folder.mkdir()
    pictures[0].rename(folder / "0.png")
    monkeypatch.chdir(tmp_path)
    for path in (Path("$HOME"), "./$HOME"):
        assert len(open_bundle(PHANTOMS, dataset_dir=path).get("datalist")) == 1


def test_images_are_read_and_classified(pictures):
    bundle = open_bundle(PHANTOMS, num_draws=3)
    images = bundle.read(pictures)
    assert images.shape == (2, 1, 32, 32) and images.min() >= -1 and images.max() <= 1
    torch.testing.assert_close(bundle.read(pictures[1]), images[1:])
    result = bundle.classify(pictures, error_maps=True)
    assert isinstance(result, DenoisingClassification) and result.error_maps.shape == (2, 2, 32, 32)
    torch.testing.assert_close(bundle.classify(images).probabilities, result.probabilities)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 1, 33, 32), r"expected \[B, 1, 32, 32\], as phantom_xray_diffusion reads them, got \[1, 1, 33"),
        (torch.zeros(1, 3, 32, 32), r"expected \[B, 1, 32, 32\]"),
        (torch.full((1, 1, 32, 32), 255.0), "expected values from -1 to 1, .*, got 255 to 255; give paths"),
        (torch.full((1, 1, 32, 32), float("nan")), "expected values from -1 to 1"),
    ],
)
def test_a_tensor_that_reading_would_not_give_is_refused(images, said):
    with pytest.raises(ValueError, match=f"images: {said}"):
        open_bundle("phantom_xray_diffusion", num_draws=1, device="cpu").classify(images)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 1, 32, 32, dtype=torch.complex64), "images: expected floating point .* got torch.complex64"),
        (torch.zeros(1, 1, 32, 32, dtype=torch.uint8), "images: expected floating point .* got torch.uint8"),
        (torch.zeros(1, 1, 32, 32).to_sparse(), "images: expected a dense Tensor .* got torch.sparse_coo"),
        (torch.zeros(1, 1, 32, 32, device="meta"), "images: expected a dense Tensor .* device meta, without values"),
        (np.zeros((1, 1, 32, 32), np.float32), "images: expected paths, items or a Tensor, got ndarray; torch.as_ten"),
        ([np.zeros((1, 32, 32))], "files: expected paths or items of a datalist, got a list with ndarray"),
        (5, "files: expected paths or items of a datalist, got int"),
        (b"a.png", "files: expected paths or items of a datalist, got bytes"),
        ([None], "files: expected paths or items of a datalist, got a list with NoneType"),
    ],
)
def test_what_is_no_image_is_refused(images, said):
    with pytest.raises(TypeError, match=said):
        open_bundle("phantom_xray_diffusion", num_draws=1, device="cpu").classify(images)


def test_an_item_has_an_image():
    with pytest.raises(ValueError, match=r"files: expected items of a datalist with 'image', got \['label'\]"):
        open_bundle("phantom_xray_diffusion", device="cpu").read([{"label": 1}])


def test_a_score_bundle_classifies(pictures):
    result = open_bundle("pneumonia_xray_score", num_steps=5).classify(pictures[:1])
    assert isinstance(result, LikelihoodClassification)


def test_weights_are_the_same_by_all_files():
    opened = [open_bundle(PHANTOMS, *files) for files in ((), ("train.json",), ("train.json", "evaluate.json"))]
    (digest,) = {network_hash(bundle.network) for bundle in opened}
    assert digest == json.loads((opened[0].root / "models" / "model.json").read_text())["weights"]
    assert not any(bundle.network.training for bundle in opened)


@pytest.mark.parametrize("name", ["mammography_score", "skin_lesion_resnet18"])
def test_says_that_a_bundle_ships_no_weights(name):
    with pytest.raises(ValueError, match=f"{name} ships none"):
        _ = open_bundle(name, "train.json").network


@pytest.mark.filterwarnings("ignore:.*has no description beside it")
def test_a_resnet_classifies_from_its_inference(tmp_path, pictures):
    torch.save(open_bundle("pneumonia_xray_resnet18").get("network_def").state_dict(), tmp_path / "model.pt")
    bundle = open_bundle("pneumonia_xray_resnet18", run=tmp_path)
    result = bundle.classify(pictures)
    torch.testing.assert_close(result.probabilities, bundle.network(bundle.read(pictures)).softmax(1))
    assert result.network_evaluations.tolist() == [1, 1] and "model.json" in bundle.notes[0]
    with pytest.raises(ValueError, match="error_maps: expected False"):
        bundle.classify(pictures, error_maps=True)
    with pytest.raises(TypeError, match="classifies with ResNet"):
        open_bundle("pneumonia_xray_resnet18", "train.json", run=tmp_path).classify(pictures)


@pytest.mark.parametrize("files", [("inference.json",), ("train.json",), ("train.json", "evaluate.json")])
def test_a_run_brings_its_weights_classes_and_size(run, files):
    note = json.loads((run / "model.json").read_text())
    note["model"] |= {"classes": ["one", "two"], "image_size": [16, 24], "bundle": ""}
    (run / "model.json").write_text(json.dumps(note))
    bundle = open_bundle(PHANTOMS, *files, run=run)
    assert (bundle.classes, bundle.image_size, bundle.run) == (["one", "two"], (16, 24), run)
    assert network_hash(bundle.network) == note["weights"] and bundle.checkpoint == run / "model.pt"


def test_a_run_of_another_network_brings_its_settings(tmp_path):
    small = {"denoiser#channels": [8, 8], "denoiser#norm_num_groups": 4, "denoiser#num_head_channels": 8}
    made = open_bundle(PHANTOMS, "train.json", **small)
    torch.save(made.get("denoiser").state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps({"model": made.get("model_description")}))
    assert network_hash(open_bundle(PHANTOMS, run=tmp_path).network) == network_hash(made.get("denoiser"))


def test_what_was_fitted_to_a_run_is_used_and_nothing_else(run):
    def opened():
        return open_bundle("pneumonia_xray_diffusion", run=run)

    assert not opened().calibrated and "not calibrated" in "".join(opened().notes)
    (run / "uncertainty.json").write_text("{}")
    assert opened().calibrated and opened().get("uncertainty") == str(run / "uncertainty.json")
    fitted = {"images": 9, "mean": {"provenance": {"num_draws": 7}}, "vote": {"provenance": {"num_draws": 7}}}
    (run / "uncertainty.json").write_text(json.dumps(fitted))
    assert opened().get("num_draws") == 7
    (run / "uncertainty.json").write_text(json.dumps({**fitted, "settings": {"rule": "vote", "temperature": 0.5}}))
    assert (opened().get("rule"), opened().get("temperature")) == ("vote", 0.5)
    for settings in ({"weighting": "$print('run')"}, {"rule": "@seed"}, {"temperature": [1]}):
        (run / "uncertainty.json").write_text(json.dumps({**fitted, "settings": settings}))
        with pytest.raises(ValueError, match="run: expected rule and weighting by name and temperature as a number"):
            opened()


def test_refuses_what_is_no_run(tmp_path, run):
    with pytest.raises(ValueError, match=r"run: expected the folder of a training"):
        open_bundle(PHANTOMS, run=tmp_path)
    note = json.loads((run / "model.json").read_text())
    note["model"]["classes"] = ["$__import__('os').abort()", "b"]
    (run / "model.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match="classes: expected plain text"):
        open_bundle(PHANTOMS, run=run)


def test_errors_of_components_are_their_own():
    with pytest.raises(ValueError, match="num_draws"):
        _ = open_bundle(PHANTOMS, num_draws=0).inferer
    with pytest.raises(ValueError, match="id: expected one of"):
        open_bundle(PHANTOMS).get("nothing")


def test_an_opened_bundle_refuses_copies_of_all_it_holds():
    opened = open_bundle(PHANTOMS, device="cpu")
    network = opened.network
    assert copy.copy(opened).network is network
    with pytest.raises(TypeError, match="Bundle: an opened bundle cannot be copied with all it holds; open it again"):
        copy.deepcopy([opened])
    with pytest.raises(TypeError, match="Bundle: an opened bundle cannot be pickled, nor be sent to another process"):
        pickle.dumps(opened)
    assert network_hash(copy.deepcopy(network)) == network_hash(network)


def test_what_a_component_raises_has_no_circle_of_causes():
    bundle = open_bundle("phantom_xray_diffusion", device="cpu", num_draws=-1)
    with pytest.raises(ValueError, match="num_draws") as raised:
        bundle.get("inferer")
    seen, error = [], raised.value
    while error is not None:
        assert error not in seen
        seen.append(error)
        error = error.__cause__ or error.__context__
