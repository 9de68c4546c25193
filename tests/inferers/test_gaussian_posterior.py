"""Classification with the exact denoiser reaches the exact posterior: Gaussian classes, for which both are known.

With the ELBO weighting the score of a class is an unbiased estimate of log p(x | class) up to a constant, in every
point x (Kong et al. 2023, Information-theoretic diffusion, equation 9):
-log p(x) = constant + 1/2 integral E |epsilon - epsilon_hat|^2 d lambda. Its standard error follows from the spread of
the draws, so each tolerance below is a number of standard errors, not a number that happens to pass.
"""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.inferers import DiffusionClassifierInferer
from tests.closed_form import ExactDenoiser, make_classes, make_images, posterior

WIDE = {"schedule": "cosine_log_snr", "log_snr_min": -15.0, "log_snr_max": 15.0}
CASES = {
    "two Gaussians, DDPM, epsilon": ("gaussian", lambda: DDPMScheduler(4000, **WIDE)),
    "a mixture, DDIM, v": ("mixture", lambda: DDIMScheduler(1000, prediction_type="v_prediction", **WIDE)),
    "two Gaussians, DDPM, sample": ("gaussian", lambda: DDPMScheduler(1000, prediction_type="sample", **WIDE)),
    "three Gaussians, rectified flow": ("three", lambda: RFlowScheduler(1000, use_discrete_timesteps=False)),
    "a mixture, rectified flow, discrete": ("mixture", lambda: RFlowScheduler(1000)),
}


def log_ratios(errors: DenoisingErrors) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates of log p(x | k) - log p(x | 0) for k > 0, and their standard errors, each [B, K - 1].

    The standard error is that of independent levels: stratified ones can only be better.
    """
    scores = -0.5 * errors.num_elements * errors.values.double() * errors.log_snr_rate.double()
    ratios = scores[:, 1:] - scores[:, :1]
    return ratios.mean(2), ratios.std(2) / errors.num_draws**0.5


@pytest.mark.parametrize("name", CASES)
def test_mean_rule_approaches_the_posterior(name, device):
    kind, scheduler = CASES[name]
    classes = make_classes(kind)
    images = make_images(classes, 72 // len(classes))
    exact = posterior(classes, images)
    truth = (exact[:, 1:] / exact[:, :1]).log()
    mean_error = {}
    for num_draws in (8, 64, 768):
        inferer = DiffusionClassifierInferer(
            scheduler(), num_classes=len(classes), num_draws=num_draws, rule="mean", weighting="elbo", batch_size=4096
        )
        result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, classes))
        mean_error[num_draws] = (result.probabilities.cpu() - exact).abs().mean().item()
    # Eightfold draws should divide the error by 2.8 or more; 1.5 leaves room for luck, with 72 images enough of it.
    assert mean_error[64] < mean_error[8] / 1.5
    assert mean_error[768] < mean_error[64] / 1.5

    estimate, error = log_ratios(result.errors.to("cpu"))
    assert error.max() < 0.5, "the test is sharp only if the estimate is"
    # 72 to 144 numbers, so 4.5 standard errors are passed by chance in 1 of 1,000 tests; 0.02 nats are the schedule's
    # discretisation.
    assert ((estimate - truth).abs() < 4.5 * error + 0.02).all()
    # A probability p moves by at most the change of the log-ratio times 1/4; with three classes, by twice that.
    bound = (4.5 * error + 0.02).max(1).values / 4 * (len(classes) - 1)
    assert ((result.probabilities.cpu() - exact).abs().max(1).values < bound).all()

    # A wrong weighting would scale all log-ratios alike: their regression on the truth has slope 1.
    slope = (estimate * truth).sum() / truth.square().sum()
    slope_error = (truth * error).square().sum().sqrt() / truth.square().sum()
    assert abs(slope - 1) < 4.5 * slope_error + 0.005
    assert slope_error < 0.05


@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
def test_other_weightings_do_not_estimate_the_posterior(weighting):
    classes = make_classes("gaussian")
    images = make_images(classes, 12)
    inferer = DiffusionClassifierInferer(
        DDPMScheduler(1000, **WIDE), num_draws=256, rule="mean", weighting=weighting, batch_size=4096
    )
    errors = inferer.compute_errors(images, ExactDenoiser(inferer.process, classes))
    exact = posterior(classes, images)
    wrong, right = (
        (classify_errors(errors, "mean", weighting=w).probabilities - exact).abs().mean() for w in (weighting, "elbo")
    )
    assert wrong > 2 * right


@pytest.mark.parametrize("rule", ["vote", "mean"])
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "three"])
def test_default_settings_find_the_class_of_the_posterior(kind, rule, device):
    classes = make_classes(kind, gap=0.5)
    images = make_images(classes, 60 // len(classes), seed=1)
    exact = posterior(classes, images)
    top = exact.topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > 0.5
    assert clear.sum() > 40, "most images must count"
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000, **WIDE), num_classes=len(classes), rule=rule)
    result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, classes))
    agree = (result.predicted.cpu() == exact.argmax(1))[clear].float().mean()
    assert agree > 0.93


def test_temperature_divides_the_log_ratio():
    classes = make_classes("gaussian")
    images = make_images(classes, 4)
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000, **WIDE), num_draws=16, rule="mean", weighting="elbo")
    errors = inferer.compute_errors(images, ExactDenoiser(inferer.process, classes))
    cold, warm = (
        torch.log_softmax(-0.5 * errors.num_elements * result.mean_error / t, 1)
        for t in (1.0, 3.0)
        for result in [classify_errors(errors, "mean", weighting="elbo", temperature=t)]
    )
    torch.testing.assert_close((warm[:, 0] - warm[:, 1]) * 3, cold[:, 0] - cold[:, 1])
    got = classify_errors(errors, "mean", weighting="elbo", temperature=3.0).probabilities
    torch.testing.assert_close(got, warm.exp().float())
