"""What weights say they are for, and what is refused by it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    ScaleIntensityRanged,
)

from monai_diffclf.handlers.validation import BestModelSaver
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks import describe_model, describe_settings, load_weights
from monai_diffclf.networks.model_description import differences
from monai_diffclf.networks.schedulers import VPSDE, SDEProcess
from tests.tiny_unet import tiny_unet


def scale(low=-1.0):
    return ScaleIntensityRanged("image", a_min=0, a_max=1, b_min=low, b_max=1, clip=True)


GIVEN = {
    "bundle": "mine",
    "classes": ["normal", "pneumonia"],
    "channels": 1,
    "image_size": [28, 28],
    "settings": {"channels": [4, 8]},
    "schedule": DDPMScheduler(1000, schedule="cosine_log_snr"),
    "preprocessing": Compose([RandScaleIntensityd("image", 0.1), Compose([scale()]), EnsureTyped("image")]),
}
OTHERS = {
    "order": ({"classes": ["pneumonia", "normal"]}, r"classes: made with \['normal', 'pneumonia'\], asked for \['pneu"),
    "names": ({"classes": ["benign", "malignant"]}, r"made with \['normal', 'pneumonia'\]"),
    "bundle": ({"bundle": "other"}, "bundle: made with 'mine', asked for 'other'"),
    "channels": ({"channels": 3}, "channels: made with 1, asked for 3"),
    "size": ({"image_size": [64, 64]}, r"image_size: made with \[28, 28\], asked for \[64, 64\]"),
    "intensity": ({"preprocessing": scale(0.0)}, "intensity: made with"),
    "network": ({"settings": {"channels": [8, 8]}}, r"network settings channels: made with \[4, 8\]"),
    "schedule": ({"schedule": DDPMScheduler(1000, schedule="linear_beta")}, "schedule log_snr: made with"),
    "target": ({"prediction_type": "v_prediction"}, "schedule prediction_type: made with 'epsilon'"),
}


@pytest.fixture
def weights(tmp_path):
    """Weights with what a training writes beside them."""
    network = tiny_unet()
    saver = BestModelSaver(network, tmp_path / "model.pt", "auc", description=describe_model(network, **GIVEN))
    saver(type("Engine", (), {"state": type("State", (), {"metrics": {"auc": 0.5}, "epoch": 3})})())
    return tmp_path / "model.pt"


def test_the_same_model_is_loaded_without_a_word(weights):
    network = tiny_unet(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(network, weights, describe_model(network, **GIVEN))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), tiny_unet().parameters(), strict=True))
    note = json.loads(weights.with_suffix(".json").read_text())
    assert note["model"]["intensity"] == [
        {"class": "ScaleIntensityRange", "a_min": 0, "a_max": 1, "b_min": -1.0, "b_max": 1, "clip": True}
    ]
    assert note["model"]["network"]["class"] == "DiffusionModelUNet" and note["epoch"] == 3


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_is_refused_in_one_line(what, weights):
    other, message = OTHERS[what]
    network = tiny_unet()
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(network, weights, describe_model(network, **{**GIVEN, **other}))
    assert "\n" not in str(caught.value) and str(weights) in str(caught.value)
    assert "are of another model" in str(caught.value)


def test_another_network_is_refused_before_torch_complains(weights):
    network = tiny_unet(classes=3)
    with pytest.raises(ValueError, match="are of another model .*network parameters: made with"):
        load_weights(network, weights, describe_model(network, **{**GIVEN, "settings": None}))
    with pytest.raises(ValueError, match="do not fit DiffusionModelUNet: size mismatch") as caught:
        load_weights(network, weights)
    assert "\n" not in str(caught.value)


def test_a_description_of_other_weights_is_refused(weights):
    torch.save(tiny_unet(seed=5).state_dict(), weights)
    with pytest.raises(ValueError, match=r"model.json describes other weights \([0-9a-f]{16}\) than those in"):
        load_weights(tiny_unet(), weights)


@pytest.mark.parametrize("note", [None, {"metric": "val_auc", "value": 0.9, "epoch": 3}])
def test_weights_without_description_load_with_a_warning(weights, note):
    path = weights.with_suffix(".json")
    path.unlink() if note is None else path.write_text(json.dumps(note))
    network = tiny_unet(seed=1)
    with pytest.warns(UserWarning, match="no description beside it .*normal, pneumonia in this order.* not be checked"):
        load_weights(network, weights, describe_model(network, **GIVEN))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(network, weights)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 3}'])
def test_a_damaged_description_is_refused(weights, text):
    weights.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match="expected JSON that describes the weights in .*model.json, .* or remove it"):
        load_weights(tiny_unet(), weights)


def test_an_sde_is_described_however_it_comes():
    network = torch.nn.Linear(1, 1)
    common = {name: GIVEN[name] for name in ("classes", "channels", "image_size")}
    process = describe_model(network, schedule=SDEProcess(VPSDE(), "score", time_sampling="log_snr"), **common)
    alone = describe_model(network, schedule=VPSDE(), prediction_type="score", **common)
    assert process["schedule"] == alone["schedule"]
    assert process["schedule"]["beta_max"] == 20.0


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], []])
def test_classes_are_checked(classes):
    with pytest.raises(ValueError, match="classes: expected at least two different names"):
        describe_model(torch.nn.Linear(1, 1), classes=classes, channels=1, image_size=8)


def augmentation(**settings):
    return [RandFlipd("image", prob=0.5), RandAffined("image", **{"prob": 1.0, "rotate_range": 0.2, **settings})]


CHANGED = {
    "count: made with 2, asked for 0": [],
    "count: made with 2, asked for 1": augmentation()[:1],
    "1 prob: made with 1.0, asked for 0.5": augmentation(prob=0.5),
    "1 rand_affine rand_affine_grid rotate_range: made with [0.2], asked for [0.7]": augmentation(rotate_range=0.7),
    "1 class: made with 'RandAffined', asked for 'RandFlipd'": [augmentation()[0]] * 2,
}


@pytest.mark.parametrize("text", CHANGED)
def test_transforms_that_differ(text):
    before = json.loads(json.dumps(describe_settings(augmentation())))
    assert differences(describe_settings(augmentation()), before) == []
    assert text in differences(json.loads(json.dumps(describe_settings(CHANGED[text]))), before)


def test_what_a_transform_drew_last_is_no_setting():
    steps = [RandAdjustContrastd("image", prob=1.0, gamma=(0.6, 1.5)), *augmentation()]
    before = describe_settings(steps)
    for _ in range(3):
        Compose(steps).set_random_state(seed=1)({"image": torch.rand(1, 8, 8)})
    assert describe_settings(steps) == before
    assert before["0"]["adjuster"]["gamma"] == [0.6, 1.5]
    sideways, upright = (describe_settings(RandFlipd("image", prob=0.5, spatial_axis=axis)) for axis in (0, 1))
    assert differences(upright, sideways) == ["flipper spatial_axis: made with 0, asked for 1"]


def test_optimizers_and_losses_that_differ():
    weights = [torch.nn.Parameter(torch.zeros(1))]
    one, other = (describe_settings(torch.optim.AdamW(weights, weight_decay=decay)) for decay in (0.1, 0.2))
    assert differences(other, one) == ["weight_decay: made with 0.1, asked for 0.2"]
    losses = [describe_settings(DenoisingLoss(DDPMScheduler(10), weighting="min_snr", gamma=g)) for g in (5.0, 1.0)]
    assert differences(losses[1], losses[0]) == ["gamma: made with 5.0, asked for 1.0"]


def test_small_numbers_and_those_of_numpy_are_told_apart():
    def optimizer(**settings):
        return describe_settings(torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), **settings))

    assert differences(optimizer(lr=1e-6), optimizer(lr=2e-6)) == ["lr: made with 2e-06, asked for 1e-06"]
    assert differences(optimizer(lr=np.float32(0.5)), optimizer(lr=0.25)) == ["lr: made with 0.25, asked for 0.5"]
    half, quarter = (describe_settings(RandFlipd("image", prob=np.float32(prob))) for prob in (0.5, 0.25))
    assert len(differences(half, quarter)) == 1
    assert json.dumps(half)


def test_logarithms_near_zero_may_differ_in_their_last_digits():
    assert differences({"log_snr": [2.0, 1e-7]}, {"log_snr": [2.0, -1e-7]}) == []
    assert differences({"log_snr": [2.0, 1e-3]}, {"log_snr": [2.0, -1e-3]}) != []


def test_where_a_transform_reads_from_is_no_setting(tmp_path):
    """Data may be moved; what they hold is compared by their content."""
    here, there = EnsureTyped("image"), EnsureTyped("image")
    here.folder, there.folder, there.folders = tmp_path / "a", tmp_path / "b", [tmp_path / "b"]
    assert describe_settings(here) == describe_settings(there)
