"""The phantoms: reproducible, with a truthful mask, and no class that brightness gives away."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from monai_diffclf.data.phantoms import make_phantom, make_phantoms


def stack(phantoms: list[dict], name: str) -> np.ndarray:
    return np.stack([phantom[name] for phantom in phantoms])


@pytest.fixture(scope="module")
def many() -> list[dict]:
    return make_phantoms(1500, seed=0)


def test_items_have_the_documented_form():
    phantoms = make_phantoms(40, seed=3)
    assert [phantom["key"] for phantom in phantoms[:2]] == ["phantom-3-0", "phantom-3-1"]
    for phantom in phantoms:
        assert phantom["image"].shape == phantom["mask"].shape == (1, 32, 32)
        assert phantom["image"].dtype == np.float32
        assert phantom["mask"].dtype == np.uint8
        assert phantom["image"].min() >= 0
        assert phantom["image"].max() <= 1
        assert phantom["mask"].any() == (phantom["label"] == 1)
    assert {phantom["label"] for phantom in phantoms} == {0, 1}


def test_phantom_depends_on_seed_and_index_only():
    short, long = make_phantoms(5, seed=1), make_phantoms(9, seed=1)
    for a, b in zip(short, long[:5], strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["label"] == b["label"]
    alone = make_phantom(4, seed=1)
    assert alone["label"] == long[4]["label"]
    np.testing.assert_array_equal(alone["image"], long[4]["image"])


def test_other_seed_or_index_gives_another_phantom():
    image = make_phantom(0, label=0)["image"]
    assert not np.array_equal(image, make_phantom(1, label=0)["image"])
    assert not np.array_equal(image, make_phantom(0, seed=1, label=0)["image"])


def test_lesion_is_where_the_mask_is():
    brighter = []
    for index in range(60):
        clear, lesion = (make_phantom(index, seed=5, label=label) for label in (0, 1))
        added = gaussian_filter(lesion["image"][0] - clear["image"][0], 0.5)
        mask = lesion["mask"][0] > 0
        brighter.append(added[mask].mean() - added[~mask].mean())
        assert mask.sum() >= 6
    assert np.mean(np.array(brighter) > 0.03) > 0.95


def test_brightness_does_not_give_the_class_away(many):
    brightness = stack(many, "image").mean((1, 2, 3))
    assert abs(roc_auc_score(stack(many, "label"), brightness) - 0.5) < 0.06


def test_linear_model_on_pixels_is_far_from_perfect(many):
    pixels, labels = stack(many, "image").reshape(len(many), -1), stack(many, "label")
    model = LogisticRegression(C=0.1, max_iter=200).fit(pixels[:1000], labels[:1000])
    assert 0.6 < roc_auc_score(labels[1000:], model.decision_function(pixels[1000:])) < 0.85


def test_size_changes_resolution_but_not_the_scene():
    small, large = (make_phantom(2, seed=4, size=size, label=1) for size in (32, 64))
    assert large["image"].shape == (1, 64, 64)
    coarse = large["mask"].reshape(1, 32, 2, 32, 2).mean((2, 4)) >= 0.5
    overlap = (coarse & (small["mask"] > 0)).sum() / (coarse | (small["mask"] > 0)).sum()
    assert overlap > 0.7


def test_prevalence_is_kept():
    assert not any(phantom["label"] for phantom in make_phantoms(20, prevalence=0.0))
    assert all(phantom["label"] for phantom in make_phantoms(20, prevalence=1.0))
    labels = np.array([phantom["label"] for phantom in make_phantoms(300, seed=6, prevalence=0.2)])
    assert 0.13 < labels.mean() < 0.27


def test_a_phantom_takes_milliseconds():
    start = time.process_time()
    make_phantoms(50)
    assert (time.process_time() - start) / 50 < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": -1}, r"index, seed: expected integers of 0 or more, got -1 and 0"),
        ({"index": 0, "seed": -2}, r"index, seed: expected integers of 0 or more, got 0 and -2"),
        ({"index": 0, "size": 8}, r"size: expected 16 pixels or more.*got 8"),
        ({"index": 0, "label": 2}, r"label: expected 0 \(clear\), 1 \(lesion\) or None.*got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**arguments)


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="count: expected 0 or more, got -1"):
        make_phantoms(-1)
    with pytest.raises(ValueError, match=r"prevalence: expected a probability in \[0, 1\], got 1.5"):
        make_phantoms(1, prevalence=1.5)
