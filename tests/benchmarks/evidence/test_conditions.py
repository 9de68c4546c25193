"""Corruptions, marks, subsets and wrong labels: functions of their arguments, as strong as the protocol says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks.evidence import run
from benchmarks.evidence.conditions import change_test, change_training, corners, mark, subset, trained_as, wrong_labels
from benchmarks.evidence.corruptions import CORRUPTIONS, corrupt, inverted, noise_image, shuffled
from benchmarks.evidence.data import Images
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.protocol import protocol
from benchmarks.evidence.run import conditions_of


def some_images(count: int = 60, size: int = 32, channels: int = 1, classes: int = 3) -> Images:
    rng = np.random.default_rng(0)
    smooth = rng.integers(40, 200, (count, size // 8, size // 8, channels)).repeat(8, 1).repeat(8, 2)
    labels = np.arange(count) % classes
    keys = np.array([f"image_{number}" for number in range(count)])
    return Images(smooth.astype(np.uint8), labels, keys, keys)


IMAGES = some_images()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "strengths"), protocol()["corruptions"].items())
def test_corruption_is_a_function_of_each_image_alone_and_grows(
    kind: str, strengths: list[float], channels: int
) -> None:
    pixels = some_images(6, 64, channels).pixels
    weak, strong = (corrupt(pixels, kind, strength) for strength in strengths)
    assert weak.dtype == np.uint8
    assert weak.shape == pixels.shape
    np.testing.assert_array_equal(corrupt(pixels[[3, 1]], kind, strengths[0]), weak[[3, 1]])
    assert np.abs(weak - pixels.astype(int)).mean() > 0.2
    if kind != "gamma":  # its two strengths go to either side
        assert np.abs(strong - pixels.astype(int)).mean() > np.abs(weak - pixels.astype(int)).mean()


def test_corruptions_follow_their_formulas() -> None:
    grey = np.full((1, 64, 64, 1), 128, np.uint8)
    assert corrupt(grey, "noise", 0.08).std() == pytest.approx(0.08 * 255, rel=0.05)
    point = np.zeros((1, 201, 201, 1), np.uint8)
    point[0, 80:121, 80:121] = 255
    blurred = corrupt(point, "blur", 0.02)[0, 100, :, 0].astype(float)
    edge = np.interp(-127.5, -blurred[100:], np.arange(100, 201))
    assert edge == pytest.approx(120.5, abs=0.2)  # the edge stays where it was, and is as wide as a Gaussian's
    assert np.interp(-0.1587 * 255, -blurred[100:], np.arange(100, 201)) - edge == pytest.approx(0.02 * 201, rel=0.05)
    np.testing.assert_array_equal(corrupt(IMAGES.pixels, "gamma", 1.0), IMAGES.pixels)
    np.testing.assert_array_equal(corrupt(IMAGES.pixels, "contrast", 1.0), IMAGES.pixels)
    assert set(protocol()["corruptions"]) == set(CORRUPTIONS)
    with pytest.raises(ValueError, match="kind: expected one of"):
        corrupt(grey, "fog", 1)


def test_images_of_other_kinds_keep_what_they_should() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(inverted(inverted(image)), image)
    np.testing.assert_array_equal(np.sort(shuffled(image), axis=None), np.sort(image, axis=None))
    assert (shuffled(image) != image).any()
    calm = np.full((32, 32, 1), 100, np.uint8)
    calm[::2] = 140
    assert noise_image(calm).mean() == pytest.approx(120, abs=3)


def test_subsets_are_nested_and_hold_every_class() -> None:
    images = some_images(300)
    rows = [set(subset(images, fraction, seed=1).tolist()) for fraction in (0.01, 0.1, 0.5, 1.0)]
    assert rows[0] < rows[1] < rows[2] < rows[3] == set(range(300))
    assert [len(chosen) for chosen in rows] == [6, 30, 150, 300]  # two of each class at least
    assert rows[1] != set(subset(images, 0.1, seed=2).tolist())
    with pytest.raises(ValueError, match="fraction: expected"):
        subset(images, 0.0, seed=1)


def test_subsets_hold_groups_whole_within_a_class() -> None:
    images = some_images(300)
    grouped = Images(images.pixels, images.labels, images.keys, np.array([str(n // 12) for n in range(300)]))
    chosen = subset(grouped, 0.2, seed=0)
    for label in range(3):
        for group in np.unique(grouped.groups[chosen]):
            members = np.flatnonzero((grouped.groups == group) & (grouped.labels == label))
            assert np.isin(members, chosen).sum() in (0, len(members))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_wrong_labels_are_wrong_and_of_all_classes(share: float) -> None:
    labels = np.arange(3000) % 3
    changed = wrong_labels(labels, share, seed=0)
    assert (changed != labels).mean() == pytest.approx(share)
    moved = (changed - labels)[changed != labels] % 3
    assert (moved == 1).mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(changed, wrong_labels(labels, share, seed=0))
    assert (changed != wrong_labels(labels, share, seed=1)).any()


def test_mark_goes_with_the_class_in_training_and_against_it_in_testing() -> None:
    black = np.zeros((300, 40, 40, 1), np.uint8)
    labels = np.arange(300) % 3
    keys = np.array([str(number) for number in range(300)])
    train = Images(black, labels, keys, keys)
    marked, _ = change_training("shortcut", train, train, seed=0)
    tested = change_test("shortcut", train)
    place = {part: _corner(images.pixels) for part, images in (("train", marked), ("test", tested))}
    assert (place["train"] == labels).mean() == pytest.approx(0.95)
    np.testing.assert_array_equal(place["test"], (labels + 1) % 3)
    np.testing.assert_array_equal(place["train"], corners(labels, 0))
    assert (mark(black[:1], np.array([3]))[0, 20:, 20:] == 255).sum() == 9


def _corner(pixels: np.ndarray) -> np.ndarray:
    half = pixels.shape[1] // 2
    sums = [pixels[:, a : a + half, b : b + half].sum((1, 2, 3)) for a in (0, half) for b in (0, half)]
    return np.argmax(sums, axis=0)


def test_conditions_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="condition: expected"):
        change_training("fog", IMAGES, IMAGES, 0)
    with pytest.raises(ValueError, match="conditions: expected some of"):
        conditions_of("fog")
    assert len(conditions_of("corruption")) == 12
    assert conditions_of("learning_curve") == [f"learning_curve/{f}" for f in (0.02, 0.05, 0.1, 0.25, 0.5)]
    assert conditions_of("longer") == ["longer", "longer/few_draws"]


@pytest.mark.parametrize("condition", ["few_draws", "longer/few_draws", "other_kinds/training"])
def test_a_method_without_draws_opens_no_test_set(condition: str) -> None:
    with pytest.raises(ValueError, match=f"expected a diffusion classifier for {condition}, got cnn_finetuned"):
        run._as_asked(object(), condition, "cnn_finetuned", IMAGES)  # type: ignore[arg-type]


def test_typicality_is_told_of_training_images_for_its_later_look_alone() -> None:
    class Told:
        def __init__(self, by: int = 0) -> None:
            self.by = by

        def knowing_training(self, train: Images) -> Told:
            return Told(len(train))

    found = [run._as_asked(Told(), c, "", IMAGES).by for c in ("other_kinds", "other_kinds/training")]  # type: ignore
    assert found == [0, len(IMAGES)]
    assert conditions_of("other_kinds/training") == ["other_kinds/training"]
    assert trained_as("other_kinds/training") == "primary"


class Counted:
    """A method that counts what it predicts."""

    settings: dict[str, Any] = {}  # noqa: RUF012 - as a Method has it

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.seen: list[str] = []

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> Counted:
        return self

    def predict(self, images: Images) -> Prediction:
        self.seen.append("changed" if images.changed else "validation")
        return Prediction(np.full((len(images), 3), 1 / 3))


def test_validation_images_are_classified_once_for_all_corruptions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    method, opening = Counted(), SimpleNamespace(line=lambda: 1)
    write = Mock(return_value=tmp_path)
    monkeypatch.setattr(run, "make_method", lambda name, data: method)
    monkeypatch.setattr(run, "load", lambda data, step: (IMAGES, IMAGES))
    monkeypatch.setattr(run, "open_test", lambda *args, **kwargs: opening)
    monkeypatch.setattr(run, "load_test", lambda opening: IMAGES)
    monkeypatch.setattr(run, "result_path", lambda *args: tmp_path / "none")
    monkeypatch.setattr(run, "write_result", write)
    run.run("linear_probe", "busi_224", 0, ["corruption/noise/0.08", "corruption/noise/0.16"])
    assert method.seen == ["validation", "changed", "changed"]
    written = [call.args for call in write.call_args_list]
    assert [line["condition"] for line, *_ in written] == ["corruption/noise/0.08", "corruption/noise/0.16"]
    assert all(len(on_validation.probabilities) == len(IMAGES) for _, _, on_validation, *_ in written)
