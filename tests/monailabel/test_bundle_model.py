"""A bundle as a classifier of single images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.bundle import open_bundle
from monai_diffclf.explain import decision_map
from monai_diffclf.image_io import read_grid
from monai_diffclf.monailabel.bundle_model import BundleModel, find_default_bundle


class Sharpen:
    """A post-transform: squares the probabilities and adds a prediction set."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Apply it."""
        pred = item["pred"] ** 2 / (item["pred"] ** 2).sum()
        return item | {"pred": pred, "prediction_set": pred > 0.1, "ood_p_value": torch.tensor(0.25)}


class Refuse:
    """A post-transform fitted for another number of draws."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Refuse."""
        raise ValueError(f"errors: expected 51 draws, got {item['errors'].shape[1]}")


def postprocessing(*names: str) -> dict[str, Any]:
    """Configuration of a Compose of the classes above."""
    here = "tests.monailabel.test_bundle_model"
    return {"_target_": "monai.transforms.Compose", "transforms": [{"_target_": f"{here}.{name}"} for name in names]}


@pytest.fixture(scope="module")
def model(bundle: Path) -> BundleModel:
    """The bundle with three draws, loaded."""
    return BundleModel(bundle)


def test_answers_as_the_bundle_itself_does(model: BundleModel, images: dict[str, Path]) -> None:
    result = open_bundle(model.folder).classify(images["png"], error_maps=True)

    outcome = model.classify(model.read(images["png"]))
    assert torch.allclose(outcome.item["pred"], result.probabilities[0], atol=1e-6)
    assert torch.equal(outcome.item["vote_share"], result.vote_share[0])
    assert outcome.item["network_evaluations"] == 3 * 2 and outcome.warnings == ()
    # The network's 32 pixels are 28 and padding; of the 61 rows, 47 were taken.
    expected = decision_map(result.error_maps, result.predicted)[0, 2:30, 2:30]
    assert outcome.rival == 1 - outcome.predicted
    assert outcome.map.shape == (61, 47) and not outcome.map[:7].any()
    assert float(outcome.map[7:54].mean()) == pytest.approx(float(expected.mean()), rel=0.02)


def test_the_networks_input_sent_back_is_the_image(model: BundleModel, images: dict[str, Path]) -> None:
    picture = np.asarray(Image.open(images["png"])) / 255
    for path in images.values():
        image = model.read(path)
        returned = model.to_image_size((image.as_tensor()[0] + 1) / 2, image).numpy()
        assert returned.shape == (61, 47)
        # Rows are as far apart as the picture is wide, with pixels higher than wide fewer of them.
        seen = np.flatnonzero(returned.any(1))
        rows = slice(seen[0] + 2, seen[-1] - 1)
        assert np.abs(returned[rows, 2:45] - picture[rows, 2:45]).max() < 0.05
        height, width = read_grid(path).pixel_size[:2]
        assert abs(len(seen) * height - 47 * width) <= height


def test_settings_of_a_request(model: BundleModel, images: dict[str, Path]) -> None:
    image = model.read(images["png"])
    outcome = model.classify(image, num_draws=5, rule="vote", seed=8)
    assert (outcome.inferer.num_draws, outcome.inferer.rule, outcome.inferer.seed) == (5, "vote", 8)
    again, other = model.classify(image, seed=8), model.classify(image, seed=9)
    assert not torch.equal(again.item["errors"], other.item["errors"])
    assert torch.equal(model.classify(image, seed=8).item["errors"], again.item["errors"])


def test_postprocessing_is_applied_and_one_that_refuses_is_named(
    changed_bundle: Callable[..., Path], images: dict[str, Path]
) -> None:
    model = BundleModel(changed_bundle(postprocessing=postprocessing("Refuse", "Sharpen")))
    outcome = model.classify(model.read(images["png"]))
    squared = outcome.before**2
    assert torch.allclose(outcome.item["pred"], squared / squared.sum())
    assert outcome.warnings == ("Refuse: errors: expected 51 draws, got 3",)


def test_shipped_bundle_is_calibrated_for_its_own_draws_only(images: dict[str, Path]) -> None:
    model = BundleModel(find_default_bundle())
    image = model.read(images["png"])
    outcome = model.classify(image)
    assert not torch.equal(outcome.item["pred"], outcome.before)
    assert outcome.item["prediction_set"].dtype == torch.bool and 0 < outcome.item["ood_p_value"] <= 1
    # Blobs are no X-ray.
    assert outcome.item["ood_p_value"] < 0.01
    assert outcome.warnings == ("untypical: p-value 0.0032 among the images that the model knows",)
    assert outcome.item["warnings"] == outcome.warnings[0]
    few = model.classify(image, num_draws=3)
    assert torch.equal(few.item["pred"], few.before) and "ood_p_value" not in few.item
    assert [warning.split(":")[0] for warning in few.warnings] == [
        "CalibrateProbabilitiesd",
        "ConformalSetd",
        "TypicalityScored",
    ]
    assert all("num_draws: expected 3, found 51" in warning for warning in few.warnings)


def test_inverted_and_black_images_have_a_warning(dataset, tmp_path: Path) -> None:
    model = BundleModel(find_default_bundle())
    file = sorted((dataset("kermany_cxr_224") / "images" / "NORMAL").iterdir())[0]
    with Image.open(file) as picture:
        xray = np.asarray(picture.convert("L"))
    for name, image in (("plain", xray), ("inverted", 255 - xray), ("black", np.zeros_like(xray))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    plain, inverted, black = (
        model.classify(model.read(tmp_path / f"{name}.png"), num_draws=3) for name in ("plain", "inverted", "black")
    )
    texts = [
        "; ".join(text for text in found.warnings if "num_draws" not in text) for found in (plain, inverted, black)
    ]
    assert texts[0] == ""
    assert texts[1].startswith("looks inverted")
    assert texts[2] == "every pixel has the same value, 0"


def test_postprocessing_of_another_model_is_refused(changed_bundle: Callable[..., Path]) -> None:
    transforms = {"_target_": "monai.transforms.Compose", "transforms": [{
        "_target_": "monai_diffclf.transforms.CalibrateProbabilitiesd", "keys": "pred", "rule": "mean",
        "calibration": str(find_default_bundle() / "configs" / "uncertainty.json"), "provenance": {"network": "other"},
    }]}  # fmt: skip
    with pytest.raises(ValueError, match=r"cannot be used: CalibrateProbabilitiesd: .* another model: network"):
        BundleModel(changed_bundle(postprocessing=transforms))


def test_a_stopping_rule_is_left_out(changed_bundle: Callable[..., Path], images: dict[str, Path]) -> None:
    stopping = {"_target_": "monai_diffclf.classification.CurtailedVote"}
    model = BundleModel(changed_bundle(stopping=stopping, rule="vote", num_draws=5))
    assert model.classify(model.read(images["png"])).item["network_evaluations"] == 10


def test_made_by_changes_with_the_configuration(model: BundleModel, changed_bundle: Callable[..., Path]) -> None:
    assert BundleModel(model.folder).made_by() == model.made_by()
    assert BundleModel(changed_bundle(temperature=0.5)).made_by() != model.made_by()


def test_default_is_the_pneumonia_bundle() -> None:
    assert find_default_bundle().name == "pneumonia_xray_diffusion"


def test_refused_bundles(tmp_path: Path, changed_bundle: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="bundle: expected a bundle's folder, but there is no file .*inference.json"):
        BundleModel(tmp_path)
    reader_last = {"_target_": "monai.transforms.Compose", "transforms": [{"_target_": "monai.transforms.Identityd",
                   "keys": "image"}]}  # fmt: skip
    for changes, error, message in [
        ({"checkpoint": str(tmp_path / "none.pt")}, RuntimeError, "network"),
        (
            {"inferer": {"_target_": "monai.inferers.SimpleInferer"}},
            TypeError,
            "serves diffusion and score classifiers only",
        ),
        (
            {"preprocessing": reader_last},
            TypeError,
            "expected ReadImaged or ReadVolumed as its first transform.* got Identityd",
        ),
    ]:
        with pytest.raises(error, match=message):
            BundleModel(changed_bundle(**changes))
        shutil.rmtree(tmp_path / "changed")
