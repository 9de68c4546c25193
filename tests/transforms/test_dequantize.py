"""Dequantisation as a transform: other noise every time, reproducible, and as MONAI's transforms are."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, RandomizableTransform
from monai.utils import set_determinism
from scipy.stats import kstest

from monai_diffclf.transforms import RandDequantize, RandDequantizeD, RandDequantized, RandDequantizeDict


def discrete(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape or (1, 50, 50), generator=generator) / 127.5 - 1


@pytest.mark.parametrize("shape", [(1, 50, 50), (3, 8, 8, 8)], ids=str)
def test_noise_is_uniform_within_a_level(shape):
    image = discrete(*shape)
    noisy = RandDequantize().set_random_state(seed=0)(image)
    noise = (noisy.double() - image.double()) * 127.5
    # float32 near 1 is 6e-8 coarse, 8e-6 of a level.
    assert noise.abs().max() <= 0.5 + 1e-5
    assert kstest(noise.flatten().numpy(), "uniform", args=(-0.5, 1)).pvalue > 0.01
    assert torch.equal(((noisy + 1) * 127.5).round(), ((image + 1) * 127.5).round())


def test_width_is_that_of_the_levels():
    noisy = RandDequantize(num_levels=3, low=0.0, high=10.0).set_random_state(seed=0)(torch.zeros(1, 60, 60))
    assert noisy.abs().max() == pytest.approx(2.5, rel=0.01)


def test_seed():
    image = discrete()
    a, b, c = (RandDequantize().set_random_state(seed=seed) for seed in (0, 0, 1))
    first = a(image)
    assert torch.equal(first, b(image))
    assert not torch.equal(first, c(image))
    assert not torch.equal(first, a(image)), "other noise every time"
    torch.manual_seed(3)
    assert torch.equal(RandDequantize().set_random_state(seed=0)(image), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_is_kept(dtype):
    transform = RandDequantize().set_random_state(seed=0)
    assert transform(discrete().to(dtype)).dtype == dtype
    image = MetaTensor(discrete(), meta={"name": "film"})
    noisy = transform(image)
    assert isinstance(noisy, MetaTensor)
    assert noisy.meta["name"] == "film"


def test_input_is_left_alone():
    image = discrete()
    before = image.clone()
    RandDequantize().set_random_state(seed=0)(image)
    assert torch.equal(image, before)
    item = {"image": image, "label": 1}
    got = RandDequantized(["image"]).set_random_state(seed=0)(item)
    assert item["image"] is image
    assert torch.equal(image, before)
    assert got["label"] == 1


def test_dictionary_form():
    image = discrete()
    transform = RandDequantized(["image", "other"]).set_random_state(seed=4)
    item = transform({"image": image, "other": image, "rest": image})
    assert torch.equal(item["rest"], image)
    assert not torch.equal(item["image"], item["other"]), "every image has noise of its own"
    assert torch.equal(item["image"], RandDequantize().set_random_state(seed=4)(image))
    assert RandDequantizeD is RandDequantizeDict is RandDequantized
    assert isinstance(transform, MapTransform)
    assert isinstance(transform, RandomizableTransform)


def test_missing_keys():
    with pytest.raises(KeyError, match="other"):
        RandDequantized(["image", "other"])({"image": discrete()})
    item = RandDequantized(["image", "other"], allow_missing_keys=True)({"image": discrete()})
    assert set(item) == {"image"}


def test_in_a_pipeline():
    """`Compose` and `set_determinism` reach its random state."""
    image = discrete()
    first, second, third = (
        Compose([RandDequantized("image")]).set_random_state(seed=seed)({"image": image})["image"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    results = []
    try:
        for _ in range(2):
            set_determinism(seed=11)
            results.append(Compose([RandDequantized("image")])({"image": image})["image"])
    finally:
        set_determinism(seed=None)
    assert torch.equal(*results)


def test_refuses():
    with pytest.raises(ValueError, match="num_levels: expected an integer of at least 2, got 1"):
        RandDequantize(1)
    with pytest.raises(ValueError, match="low, high: expected low < high, got 1.0, 0.0"):
        RandDequantized("image", low=1.0, high=0.0)
