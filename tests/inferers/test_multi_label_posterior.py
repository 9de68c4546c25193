"""With the exact denoiser the errors of a finding reach its exact posterior: Gaussian images with two findings.

Noise that comes twice, with opposite signs, takes most of the chance out of the draws, so that 501 of them suffice for
1e-2 in every image; independent noise is held to its own standard errors.
"""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import LevelSampling, by_finding
from monai_diffclf.inferers import MultiLabelClassifierInferer
from tests.inferers.findings_closed_form import POPULATIONS, TwoFindings

MIRRORED = LevelSampling((1.0,), (True,))


def make_inferer(world: TwoFindings, **settings) -> MultiLabelClassifierInferer:
    scheduler = DDPMScheduler(4000, schedule="cosine_log_snr", log_snr_min=-10.0, log_snr_max=10.0)
    settings = {"num_draws": 501, "rule": "mean", "weighting": "elbo", "batch_size": 4096, **settings}
    return MultiLabelClassifierInferer(scheduler, num_findings=2, conditioning=world.conditioning, **settings)


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_posterior_of_each_finding_with_the_other_unknown(name, device):
    world = TwoFindings(POPULATIONS[name], gap=0.25)
    images, _ = world.sample(24)
    inferer = make_inferer(world, prior=world.prior(), noise_levels=MIRRORED)
    result = inferer.classify(images.to(device), world.denoiser(inferer.process))
    exact = world.posterior(images)
    assert exact.std() > 0.15, "images must differ in their findings"
    torch.testing.assert_close(result.probabilities.cpu().double(), exact, atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_posterior_of_a_finding_when_the_other_is_given(name, device):
    world = TwoFindings(POPULATIONS[name], gap=0.25)
    images, findings = world.sample(24, seed=1)
    given = torch.where(torch.arange(24)[:, None] % 3 == torch.tensor([0, 1]), findings, 2)
    inferer = make_inferer(world, noise_levels=MIRRORED)
    network = world.denoiser(inferer.process)
    prior = world.prior(given)
    result = inferer.classify(images.to(device), network, given=given.to(device), prior=prior.to(device))
    exact = world.posterior(images, given)
    torch.testing.assert_close(result.probabilities.cpu().double(), exact, atol=1e-2, rtol=0)
    if name != "independent":  # where findings go together, what is known of one says something of the other
        assert (exact - world.posterior(images)).abs().max() > 0.1


def test_log_ratios_are_those_of_the_densities_within_their_standard_errors(device):
    world = TwoFindings(POPULATIONS["correlated"])
    images, _ = world.sample(40)
    inferer = make_inferer(world)
    errors = by_finding(inferer.compute_errors(images.to(device), world.denoiser(inferer.process)).to("cpu"))
    scores = -0.5 * errors.num_elements * errors.values.double() * errors.log_snr_rate.double()
    ratio = (scores[:, 1] - scores[:, 0]).reshape(40, 2, -1)
    truth = torch.stack(
        [world.law(1, 2).log_density(images) - world.law(0, 2).log_density(images),
         world.law(2, 1).log_density(images) - world.law(2, 0).log_density(images)], 1
    )  # fmt: skip
    # 80 numbers: 4.5 standard errors are passed by chance in 1 of 1,800 tests; 0.02 nats are the schedule's steps.
    assert ((ratio.mean(2) - truth).abs() < 4.5 * ratio.std(2) / 501**0.5 + 0.02).all()
    assert (ratio.std(2) / 501**0.5).max() < 0.5, "the test is sharp only if the estimate is"


def test_without_the_correlation_of_the_population_the_posterior_is_missed():
    """What the network must have learned is the mixture: with independent findings in its place it is off."""
    world, other = (TwoFindings(POPULATIONS[name], gap=0.35) for name in ("correlated", "independent"))
    images, _ = world.sample(40)
    inferer = make_inferer(world, prior=world.prior(), noise_levels=MIRRORED)
    right, wrong = (
        (inferer(images, each.denoiser(inferer.process)) - world.posterior(images)).abs().mean()
        for each in (world, other)
    )
    assert wrong > 5 * right
