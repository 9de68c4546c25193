"""Which steps of a transform are left out without views."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import Compose, Lambdad, OneOf, RandLambdad, RandomizableTransform

from monai_diffclf.networks import PixelSpace
from monai_diffclf.representations import LatentDataset

ITEMS = [{"image": np.full((1, 4, 4), float(i), np.float32), "label": i % 2} for i in range(3)]


def to_range(item: dict) -> dict:
    return {**item, "image": item["image"] * 2 - 1}


class AsAnObject:
    def __call__(self, item: dict) -> dict:
        return to_range(item)


class Noise(RandomizableTransform):
    def __call__(self, item: dict) -> dict:
        return {**item, "image": item["image"] + 100}


add = RandLambdad("image", lambda image: image + 100, prob=1.0)


@pytest.mark.parametrize("views", [0, 1])
@pytest.mark.parametrize(
    "transform",
    [
        to_range,
        [to_range],
        AsAnObject(),
        Lambdad("image", lambda image: image * 2 - 1),
        Compose([Compose([to_range])]),
        Compose([lambda item: [item], Compose([lambda items: to_range(items[0])], map_items=False)], map_items=False),
    ],
    ids=["function", "list", "object", "transform", "nested", "nested otherwise"],
)
def test_what_is_not_random_is_done_with_and_without_views(transform, views):
    made = LatentDataset(ITEMS, transform, PixelSpace(), views=views, progress=False)
    assert [float(made[i]["image"].mean()) for i in range(3)] == [-1.0, 1.0, 3.0]


@pytest.mark.parametrize("random", [add, Noise(), OneOf([add, add]), Compose([add, Noise()])])
def test_what_is_random_is_left_out_without_views(random):
    for steps in ([random, to_range], [to_range, Compose([random])], Compose([to_range, random])):
        made = LatentDataset(ITEMS, steps, PixelSpace(), views=0, progress=False)
        assert [float(made[i]["image"].mean()) for i in range(3)] == [-1.0, 1.0, 3.0]


def test_one_of_several_is_one_step():
    made = LatentDataset(ITEMS, OneOf([add, add]), PixelSpace(), views=1, progress=False)
    assert float(made[0]["image"].mean()) == 100.0, "not both"
