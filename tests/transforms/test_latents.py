"""Encoding before training: once an image, kept on disk, one latent space told from another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, PersistentDataset
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import Compose, LoadImaged, RandScaleIntensityd

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.transforms import EncodeLatents, EncodeLatentsd, latent_hash
from tests.latent_spaces import EncodesOnly

SCHEDULER = DDPMScheduler(100, prediction_type="v_prediction")


def items(count: int = 4) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [{"image": torch.rand(1, 4, 6, generator=generator), "label": i % 2} for i in range(count)]


def test_an_image_becomes_its_latents():
    image = items(1)[0]["image"]
    latents = EncodeLatents(EncodesOnly())(MetaTensor(image))
    assert type(latents) is torch.Tensor
    assert torch.equal(latents, EncodesOnly().encode(image[None])[0])
    item = EncodeLatentsd("image", EncodesOnly())({"image": image, "label": 1})
    assert item["image"].shape == (4, 2, 3)
    assert item["label"] == 1
    with pytest.raises(KeyError):
        EncodeLatentsd("image", EncodesOnly())({"label": 1})
    assert EncodeLatentsd("image", EncodesOnly(), allow_missing_keys=True)({"label": 1}) == {"label": 1}


def test_refuses_what_is_no_latent_space():
    with pytest.raises(TypeError, match="latent_space: expected a LatentSpace"):
        EncodeLatents(torch.nn.Identity())


def test_latents_on_disk_are_made_once_and_belong_to_their_space(tmp_path):
    files = [{"image": str(tmp_path / f"{i}.npy")} for i in range(4)]
    for file, item in zip(files, items(), strict=True):
        np.save(file["image"], item["image"].numpy())

    def epoch(space) -> torch.Tensor:
        transform = Compose(
            [
                LoadImaged("image", reader="NumpyReader"),
                EncodeLatentsd("image", space),
                RandScaleIntensityd("image", factors=0.5, prob=1.0),
            ]
        )
        data = PersistentDataset(files, transform, cache_dir=tmp_path / "cache", hash_transform=latent_hash)
        return torch.stack([data[i]["image"] for i in range(4)])

    first = EncodesOnly()
    one, again = epoch(first), epoch(first)
    assert first.calls == 4, "the second epoch reads them from disk"
    assert not torch.equal(one, again), "what is random comes after"
    afresh = EncodesOnly()
    epoch(afresh)
    assert afresh.calls == 0, "another run finds them"
    other = EncodesOnly()
    other.version = "another"
    epoch(other)
    assert other.calls == 4


def test_training_on_kept_latents_is_training_on_the_images():
    loader = DataLoader(items(), batch_size=4)
    batch = next(iter(loader))
    space = EncodesOnly()
    live = DenoisingPrepareBatch(SCHEDULER, latent_space=space, label_dropout=0.0)(batch)
    kept = dict(batch, image=torch.stack([EncodeLatents(EncodesOnly())(image) for image in batch["image"]]))
    stored = DenoisingPrepareBatch(SCHEDULER, label_dropout=0.0)(kept)
    assert space.calls == 1
    assert live[0].shape == (4, 4, 2, 3)
    assert torch.equal(live[0], stored[0])
    assert torch.equal(live[1]["target"], stored[1]["target"])
