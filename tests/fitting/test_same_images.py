"""Validation images are those that errors are of, or they are refused: a name is not enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.fitting.same_images import OtherImagesError, OtherNoiseError, check_images
from monai_diffclf.inferers import DiffusionClassifierInferer


class Denoiser(torch.nn.Linear):
    """Moves by the class."""

    def forward(self, x, timesteps, class_labels):
        return super().forward(x + class_labels.view(-1, 1, 1, 1))


class Opened:
    """What is asked of a bundle."""

    def __init__(self, items: list) -> None:
        torch.manual_seed(0)
        self.items, self.network = items, Denoiser(8, 8).eval()
        self.inferer = DiffusionClassifierInferer(DDPMScheduler(10), num_draws=3)

    def get(self, name):
        return {
            "validate#dataset": self.items,
            "evaluate#network": self.network,
            "evaluate#inferer": self.inferer,
            "dataset_dir": "DATA",
        }[name]


def images(seed: int, count: int = 5) -> list[dict]:
    """Without patients, as phantoms are."""
    generator = torch.Generator().manual_seed(seed)
    return [{"image": torch.rand(1, 8, 8, generator=generator), "label": i % 2, "key": f"{i}"} for i in range(count)]


def errors_of(opened: Opened):
    return compute_dataset_errors(opened.items, opened.network, inferer=opened.inferer)


def test_the_same_images_are_taken():
    opened = Opened(images(0))
    stored = errors_of(opened)
    assert stored.patients == [""] * 5
    check_images(opened, stored, "errors.npz", count=3)


@pytest.mark.parametrize("other", [images(1), images(0, 6), images(0, 4)], ids=["pixels", "more", "fewer"])
def test_others_are_refused(other):
    stored = errors_of(Opened(images(0)))
    with pytest.raises(ValueError, match="expected the validation images that the errors in .* are of, got others in"):
        check_images(Opened(other), stored, "errors.npz")


def test_some_are_enough_to_tell_others_by():
    stored = errors_of(Opened(images(0)))
    with pytest.raises(ValueError, match="got others in DATA"):
        check_images(Opened(images(1)), stored, "errors.npz", count=2)


def test_errors_that_are_of_none_of_the_images_are_told_apart():
    stored = errors_of(Opened([{**item, "key": f"test {item['key']}"} for item in images(1)]))
    with pytest.raises(OtherImagesError, match="got those of other images, none of which is among them"):
        check_images(Opened(images(0)), stored, "errors_validation_seed_0.npz")


def test_errors_of_other_noise_are_told_from_those_of_other_images():
    opened = Opened(images(0))
    stored = errors_of(opened)
    before = {name: value for name, value in stored.provenance.items() if name != "generator"}
    earlier = replace(stored, provenance=before, errors=errors_of(Opened(images(1))).errors)
    with pytest.raises(OtherNoiseError, match="the noise of this version .*, got those of an earlier one, by which"):
        check_images(opened, earlier, "errors.npz")
