"""The classes that the cost by number of classes is measured on are what they are said to be."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks.fewer_draws import mixture
from monai_diffclf.networks.schedulers import NoiseProcess


def test_denoiser_is_that_of_gaussian_classes():
    from tests.closed_form import ExactDenoiser, Mixture

    process = NoiseProcess(DDPMScheduler(1000, schedule="cosine", prediction_type="epsilon"))
    means = mixture.unit_means("random", 3)
    laws = [Mixture(mean[None], torch.full_like(mean[None], mixture.STD)) for mean in means]
    z, timesteps, labels = torch.randn(6, *means.shape[1:]), torch.arange(100, 700, 100), torch.arange(6) % 3
    ours = mixture.GaussianDenoiser(process, means)(x=z, timesteps=timesteps, class_labels=labels)
    torch.testing.assert_close(ours, ExactDenoiser(process, laws)(z, timesteps, class_labels=labels))


@pytest.mark.parametrize("layout", mixture.SHAPES)
def test_accuracy_is_the_same_for_all_numbers_of_classes(layout):
    for num_classes in (2, 20):
        means = mixture.scaled_means(layout, num_classes)
        assert means.shape == (num_classes, *mixture.SHAPES[layout])
        assert mixture.best_accuracy(means) == pytest.approx(mixture.ACCURACY, abs=0.002)


def test_distances_are_as_said():
    equal = torch.pdist(mixture.unit_means("equal", 20).flatten(1))
    assert float(equal.max() - equal.min()) < 1e-5
    pairs = torch.cdist(*[mixture.unit_means("pairs", 6).flatten(1)] * 2)
    assert pairs[0, 1] == pytest.approx(2.0, abs=1e-4) and float(pairs[0, 2:].min()) > 10


def test_cost_relative_to_the_fewest_classes():
    found = mixture.grow_classes((3, 2), images=8, num_draws=16)
    assert [(row["problem"], row["num_classes"]) for row in found["problems"][:2]] == [("pairs", 2), ("pairs", 3)]
    for row in found["problems"]:
        for key in ("predictive_mean", "sequential_vote"):
            assert 0 < row[key]["evaluations"] <= row["num_classes"] * 16
            assert row["num_classes"] > 2 or row[key]["relative"] == 1
