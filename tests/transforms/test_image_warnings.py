"""What may be wrong with an image stands beside its class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, ResizeWithPadOrCropd, ScaleIntensityRanged, Spacingd

from monai_diffclf.image_io import ReadVolumed
from monai_diffclf.storage import find_mean_image, load_mean_image
from monai_diffclf.transforms import ImageWarningsd
from monai_diffclf.uncertainty import MeanImage, fit_mean_image
from tests.volume_fixtures import affine, phantom, save_nifti

RAMP = torch.linspace(-1, 1, 40).expand(1, 36, 40).contiguous()


def test_all_findings_come_together() -> None:
    warn = ImageWarningsd("image", fit_mean_image(RAMP[None]))
    image = MetaTensor(-RAMP, meta={"warnings": "every pixel is odd"})
    item = warn({"image": image, "ood_p_value": torch.tensor(0.004), "pred": torch.ones(2)})
    first, second, third = item["warnings"].split("; ")
    assert first == "every pixel is odd"
    assert second == "untypical: p-value 0.004 among the images that the model knows"
    assert third.startswith("looks inverted, or of another kind") and third.endswith("-1.00")
    assert torch.equal(item["image"], image) and "pred" in item


def test_nothing_to_say() -> None:
    warn = ImageWarningsd("image", fit_mean_image(RAMP[None]))
    assert warn({"image": RAMP, "ood_p_value": torch.tensor(0.011)})["warnings"] == ""
    assert warn({"image": MetaTensor(RAMP * 0.2 + 0.3, meta={"warnings": ""})})["warnings"] == ""
    assert warn({"image": torch.full_like(RAMP, 0.7)})["warnings"] == ""  # constant: the reader says so
    assert ImageWarningsd("image")({"image": -RAMP})["warnings"] == ""


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.linspace(-1000, 500, 512), ""),
        (np.linspace(-9e5, 9e5, 512), "100 % of what the network sees are two values, -1 and 1"),
        (np.arange(512) % 2 * 9000.0 - 2000, "100 % of what the network sees are two values, -1 and 1"),
        (np.linspace(0, 1, 512), "99 % of what the network sees lies between 0.333 and 0.335"),
        (np.linspace(9000, 9900, 512), "99 % of what the network sees is 1"),
        (np.zeros(512), "every pixel has the same value, 0"),
    ],
)
def test_values_in_other_units(values, found):
    """Scaling clips them without a word, and the answer is as sure as any."""
    read = Compose([ReadVolumed("image"), ScaleIntensityRanged("image", -1000, 500, -1, 1, clip=True)])
    text = ImageWarningsd("image")(read({"image": values.reshape(8, 8, 8)}))["warnings"]
    assert text == (
        found + ": a mask, or values in other units than those of the training" if "network" in found else found
    )


@pytest.mark.parametrize("codes", ["RAS", "PIL"])
def test_a_volume_of_which_most_is_cut_off(tmp_path, codes):
    save_nifti(tmp_path / "scan.nii", phantom((20, 16, 12)), affine((1.0, 1.0, 2.0)), codes)
    reading = [ReadVolumed("image"), Orientationd("image", "RAS", labels=None), Spacingd("image", (1.0, 1.0, 1.0))]
    for size, share in ((10, "13 %"), (24, None)):
        read = Compose([*reading, ResizeWithPadOrCropd("image", [size] * 3)])
        text = ImageWarningsd("image")(read({"image": str(tmp_path / "scan.nii")}))["warnings"]
        assert text == (
            "" if share is None else f"the network sees {share} of the volume, around its centre; the rest is cut off"
        )


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="keys: expected one key"):
        ImageWarningsd(["image", "other"])
    with pytest.raises(ValueError, match="untypical: expected a share"):
        ImageWarningsd("image", untypical=1.0)
    with pytest.raises(KeyError):
        ImageWarningsd("image")({})
    with pytest.raises(ValueError, match=r"expected \[B, 1, \*spatial\] with 2 spatial dimensions.*got \[1, 3, 8, 8\]"):
        ImageWarningsd("image", fit_mean_image(RAMP[None]))({"image": torch.zeros(3, 8, 8)})


def test_mean_image_returns_from_its_file(tmp_path: Path) -> None:
    images = torch.rand(5, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    mean = fit_mean_image(images, provenance={"network": "abc"})
    path = tmp_path / "uncertainty.json"
    path.write_text(json.dumps({"mean_image": mean.to_dict()}))
    loaded = load_mean_image(path, provenance={"network": "abc"})
    assert isinstance(loaded, MeanImage)
    torch.testing.assert_close(loaded.values, mean.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(loaded.correlation(images), mean.correlation(images), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="is of another model: network"):
        load_mean_image(path, provenance={"network": "xyz"})
    path.write_text("{}")
    assert load_mean_image(path) is None
    for wrong in ("[]", "nothing", '{"mean_image": 3}', '{"mean_image": {"shape": [1, 2, 2], "values": [1, 2, 3]}}'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"expected a file written by save_uncertainty, got .*uncertainty\.json"):
            load_mean_image(path)
    path.write_text('{"mean_image": {"shape": [1, 1, 2], "values": [NaN, 0]}}')
    with pytest.raises(ValueError, match="expected finite values"):
        load_mean_image(path)


def test_correlation_does_not_depend_on_size_or_scale() -> None:
    mean = fit_mean_image(RAMP[None])
    large = torch.nn.functional.interpolate(RAMP[None], (300, 200), mode="bilinear")
    assert mean.correlation(large) == pytest.approx(1.0, abs=1e-3)
    assert mean.correlation(3 * large + 7) == pytest.approx(1.0, abs=1e-3)
    volume = torch.rand(2, 1, 9, 20, 20)
    assert fit_mean_image(volume).values.shape == (1, 9, 16, 16)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="expected at least one image"):
        fit_mean_image(torch.zeros(0, 1, 4, 4))
    with pytest.raises(ValueError, match="expected finite pixels"):
        fit_mean_image(torch.full((1, 1, 4, 4), float("nan")))


def test_a_mean_image_is_found_for_its_own_model_only(tmp_path: Path) -> None:
    mean = fit_mean_image(torch.rand(5, 1, 20, 30), provenance={"network": "abc"})
    path = tmp_path / "uncertainty.json"
    assert find_mean_image(path, provenance={"network": "abc"}) is None
    path.write_text(json.dumps({"mean_image": mean.to_dict()}))
    found = find_mean_image(path, provenance={"network": "abc"})
    assert found is not None and found.provenance == mean.provenance
    assert find_mean_image(path, provenance={"network": "xyz"}) is None
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="expected a file written by save_uncertainty"):
        find_mean_image(path, provenance={"network": "abc"})
