"""Draws at a log-SNR that is named: there, and nowhere else; stored and replayed like any others."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from monai_diffclf.networks.schedulers import VPSDE, NoiseProcess, SDEProcess
from tests.closed_form import ExactDenoiser, make_classes, make_images, posterior

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", log_snr_min=-10.0, log_snr_max=10.0)
PROCESSES = [SCHEDULER, RFlowScheduler(1000), SDEProcess(VPSDE()), SDEProcess(VPSDE(), time_sampling="log_snr")]


@pytest.mark.parametrize("scheduler", PROCESSES)
def test_levels_are_where_they_were_asked_for(scheduler):
    process, wanted = NoiseProcess.of(scheduler), torch.tensor([5.3, 0.0, -3.0])
    levels = process.levels(wanted)
    step = process.log_snr_rate(process.timesteps(levels)) / process.num_train_timesteps if process.discrete else 1e-3
    assert bool(((process.log_snr(process.timesteps(levels)) - wanted).abs() <= 1.01 * step + 1e-4).all())


def test_one_draw_and_several_in_turn():
    one = DiffusionClassifierInferer(SCHEDULER, num_draws=1, noise_levels=[5.3])
    blank = torch.zeros(1, 2, 1)
    assert one.errors_from_values(blank, 4).log_snr.tolist() == pytest.approx([5.3], abs=0.03)
    five = DiffusionClassifierInferer(SCHEDULER, num_draws=5, noise_levels=(5.3, 1.0))
    found = five.errors_from_values(torch.zeros(1, 2, 5), 4)
    assert found.log_snr.tolist() == pytest.approx([5.3, 1.0, 5.3, 1.0, 5.3], abs=0.03)
    assert found.importance is None
    assert (
        one.classify(torch.rand(3, 1, 4, 4), ExactDenoiser(one.process, make_classes("gaussian"))).errors.num_draws == 1
    )


def test_draws_at_one_level_have_noise_of_their_own():
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=4, noise_levels=[1.0])
    laws = make_classes("gaussian")
    errors = inferer.compute_errors(make_images(laws, 2), ExactDenoiser(inferer.process, laws))
    assert len(errors.values[0, 0].unique()) == 4


def test_stored_and_replayed_as_others(device):
    laws = make_classes("three", gap=0.6)
    inferer = DiffusionClassifierInferer(SCHEDULER, 3, num_draws=4, rule="mean", noise_levels=[2.0, -1.0])
    network, images = ExactDenoiser(inferer.process, laws), make_images(laws, 6).to(device)
    live = inferer.classify(images, network)
    again = inferer.classify_stored(live.errors.values, images[0].numel())
    assert torch.equal(live.predicted, again.predicted) and torch.equal(live.probabilities, again.probabilities)
    one_by_one = torch.cat([inferer(image[None], network) for image in images])
    torch.testing.assert_close(one_by_one, live.probabilities)
    made_by = provenance(inferer, torch.nn.Linear(1, 1))
    other = DiffusionClassifierInferer(SCHEDULER, 3, num_draws=4, rule="mean", noise_levels=[2.0, -1.5])
    assert made_by["noise_levels"] != provenance(other, torch.nn.Linear(1, 1))["noise_levels"]


def test_a_good_level_decides_as_the_exact_posterior_would():
    laws = make_classes("gaussian", gap=1.0)
    images = make_images(laws, 60, seed=4)
    exact = posterior(laws, images).argmax(1)

    def agreement(log_snr: float) -> float:
        inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=1, rule="mean", noise_levels=[log_snr])
        found = inferer.classify(images, ExactDenoiser(inferer.process, laws)).predicted
        return float((found == exact).double().mean())

    assert agreement(0.0) > 0.85


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([], "noise_levels: expected 'stratified'"),
        ([1.0, 2.0, 3.0], r"one to 2 numbers such as \[5.3\], got \[1.0, 2.0, 3.0\]"),
        (["high"], "noise_levels: expected 'stratified'"),
        (3, "noise_levels: expected 'stratified'"),
        ([50.0], r"noise_levels: log_snr: expected numbers from -\d+.\d+ to \d+.\d+, .* got \[50.0\]"),
        ([float("nan")], "noise_levels: log_snr: expected numbers"),
        ("other", "noise_levels: expected one of"),
    ],
)
def test_refusals(levels, words):
    with pytest.raises(ValueError, match=words):
        DiffusionClassifierInferer(SCHEDULER, num_draws=2, noise_levels=levels)
