"""What describes training images of a bundle: without augmentation, no patient of validation, no learned latents."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.data.image_facts import read_facts
from monai_diffclf.fitting import image_description
from monai_diffclf.fitting.image_description import describe_images, describe_training, learned_from_training
from monai_diffclf.networks import PixelSpace
from monai_diffclf.representations import Encoder, RepresentationSpace
from monai_diffclf.storage import StoredErrors
from monai_diffclf.uncertainty import image_statistics, latent_statistics


def images(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def space(name: str = "tiny") -> RepresentationSpace:
    torch.manual_seed(0)
    encoder = Encoder(nn.Conv2d(1, 6, 4, 4), ["output"], name=name, image_size=16, in_channels=1)
    return RepresentationSpace(encoder, num_components=2).fit([images(30, 9)])


class Opened:
    """What is asked of a bundle; its training images are read by the validation's transform."""

    device = torch.device("cpu")

    def __init__(self, latent_space, size: int = 16, count: int = 7, twin: int | None = None) -> None:
        self.image_size = (size, size)
        self.training, self.validation = images(count, 1), images(5, 2)
        if twin is not None:
            self.training[twin] = 0.9 * self.validation[3]  # the same with less contrast
        self.parts = {
            "evaluate#inferer": SimpleNamespace(latent_space=latent_space),
            "train#datalist": [item(image, f"t{i}", f"p{i}") for i, image in enumerate(self.training)],
            "validate#datalist": [item(image, f"v{i}") for i, image in enumerate(self.validation)],
            "validate#preprocessing": lambda item: {**item, "image": torch.from_numpy(item["image"]) * 2 - 1},
            "validate#dataset": [{"image": image, "key": f"v{i}"} for i, image in enumerate(self.validation)],
            "images_read": {"train": {"hash": "h"}},
            "checkpoint": "model.pt",
            "dataset_dir": "DATA",
        }

    def get(self, name):
        return self.parts[name]


def item(image: torch.Tensor, key: str, patient: str = "") -> dict:
    return {"image": ((image + 1) / 2).numpy(), "key": key, "patient": patient, "label": 0}


@pytest.fixture(autouse=True)
def weights_of_the_training(monkeypatch):
    """The note beside the weights names the hash of what was trained on."""
    note = {"training": {"data": {"train": {"hash": "h"}}}}
    monkeypatch.setattr(image_description, "read_model_note", lambda path: note)


def stored(patients: list[str] | None = None) -> StoredErrors:
    errors = DenoisingErrors(torch.rand(5, 2, 3), torch.arange(3), torch.zeros(3))
    return StoredErrors(
        errors, torch.zeros(5, dtype=torch.long), [f"v{4 - i}" for i in range(5)], patients=patients or [""] * 5
    )


def test_validation_images_in_the_order_of_their_errors():
    opened = Opened(PixelSpace())
    found = describe_images(opened, stored())
    expected = image_statistics(opened.validation.flip(0))
    assert found.keys() == expected.keys()
    assert all(found[name].allclose(expected[name]) for name in expected)


def test_training_images_and_their_latents():
    known = space()
    opened = Opened(known)
    found = describe_training(opened, stored())
    expected = image_statistics(opened.training) | latent_statistics(known.encode(opened.training))
    assert found.keys() == expected.keys()
    assert all(found[name].allclose(expected[name]) for name in expected)


def test_patients_of_validation_are_left_out():
    opened = Opened(PixelSpace())
    found = describe_training(opened, stored(["p0", "p3", "", "p99", "p98"]))
    kept = opened.training[[1, 2, 4, 5, 6]]
    assert found["values"].allclose(image_statistics(kept)["values"])


def test_evenly_spaced_where_there_are_more():
    opened = Opened(PixelSpace())
    found = describe_training(opened, stored(), limit=3)
    assert found["values"].allclose(image_statistics(opened.training[[0, 3, 6]])["values"])


def test_none_where_all_are_patients_of_validation_or_images_are_tiny():
    assert describe_training(Opened(PixelSpace(), count=2), stored(["p0", "p1", "", "", ""])) == {}
    assert describe_training(Opened(PixelSpace(), size=4), stored()) == {}


@pytest.mark.parametrize("name", ["tiny", "autoencoder:TinyAutoencoder"])
def test_latents_that_were_learned_from_them_are_left_out(name):
    known = space(name)
    if name == "tiny":
        known.encoder.adapted = "2000 training images"
    assert learned_from_training(known)
    assert "latents" not in describe_training(Opened(known), stored())
    assert "latents" in describe_images(Opened(known), stored())  # of images that it has not seen


def test_only_an_encoder_as_published_is_not_learned_from_them():
    assert not learned_from_training(space())
    assert learned_from_training(PixelSpace())


def test_near_duplicates_of_validation_images_are_left_out():
    """Their patients are not known: beside a twin an image looks more usual than a new one does."""
    opened = Opened(PixelSpace(), twin=2)
    found = describe_training(opened, stored())
    kept = opened.training[[0, 1, 3, 4, 5, 6]]
    assert found["values"].allclose(image_statistics(kept)["values"])


def test_images_that_were_not_trained_on_are_refused(tmp_path):
    """By the names that the weights know, or better by the content that the training's audit knows."""
    opened = Opened(PixelSpace())
    opened.parts["images_read"] = {"train": {"hash": "other"}}
    with pytest.raises(ValueError, match="the images in the training split of DATA are not those trained on"):
        describe_training(opened, stored())
    audit = tmp_path / "audit.json"
    contents = [fact.content for fact in read_facts(opened.get("train#datalist"))]
    audit.write_text(json.dumps({"members": {"images": {"train": [*contents, "more"]}}}))
    assert describe_training(opened, stored(), audit=audit)["values"].shape == (7, 9)
    audit.write_text(json.dumps({"members": {"images": {"train": contents[1:]}}}))
    with pytest.raises(ValueError, match="not those trained on"):
        describe_training(Opened(PixelSpace()), stored(), audit=audit)
    audit.write_text("{}")  # of an earlier version: the names are compared
    assert len(describe_training(Opened(PixelSpace()), stored(), audit=audit)["values"]) == 7
