"""The inferer: what its results depend on, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler, Scheduler

from monai_diffclf.classification import (
    Classification,
    CurtailedVote,
    DenoisingErrors,
    classify_errors,
    count_votes,
    image_keys,
)
from monai_diffclf.inferers import DiffusionClassifierInferer
from tests.closed_form import ExactDenoiser, Mixture, make_classes, make_images
from tests.tiny_unet import tiny_unet

RULES = ("vote", "mean", "weighted_vote")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
NARROW = {"schedule": "cosine_log_snr", "log_snr_min": -6.0, "log_snr_max": 6.0}


def ddpm(prediction_type: str = "epsilon", steps: int = 1000) -> DDPMScheduler:
    return DDPMScheduler(steps, prediction_type=prediction_type, **NARROW)


def exact(inferer: DiffusionClassifierInferer, kind: str = "gaussian", shape: tuple[int, ...] = (1, 4, 4)):
    return ExactDenoiser(inferer.process, make_classes(kind, shape))


def images_of(kind: str = "gaussian", each: int = 4, shape: tuple[int, ...] = (1, 4, 4)) -> torch.Tensor:
    return make_images(make_classes(kind, shape), each)


@pytest.fixture(scope="module")
def real() -> tuple[DiffusionClassifierInferer, torch.nn.Module, torch.Tensor]:
    """A classifier with a real U-Net, and images."""
    inferer = DiffusionClassifierInferer(ddpm("v_prediction"), num_draws=5)
    return inferer, tiny_unet(), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


# What the errors are


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler(50, prediction_type=p, **NARROW) for p in PREDICTIONS]
    + [DDIMScheduler(50, prediction_type=p, **NARROW) for p in PREDICTIONS]
    + [PNDMScheduler(50, prediction_type="v_prediction", skip_prk_steps=True)]
    + [RFlowScheduler(1000, use_discrete_timesteps=discrete) for discrete in (True, False)],
    ids=lambda s: f"{type(s).__name__}-{getattr(s, 'prediction_type', '')}-{getattr(s, 'use_discrete_timesteps', '')}",
)
def test_errors_against_the_definition(scheduler, device):
    inferer = DiffusionClassifierInferer(scheduler, num_draws=3)
    images, network = images_of(each=2), exact(inferer)
    errors = inferer.compute_errors(images.to(device), network)
    assert isinstance(errors, DenoisingErrors)
    assert errors.values.dtype == torch.float32
    assert errors.values.device.type == device
    assert errors.num_elements == 16
    for b, key in enumerate(image_keys(images)):
        for n in range(3):
            noise = inferer.draws.noise(key, n, (1, 4, 4)).double()
            snr = errors.log_snr[n].double().cpu()
            scale = 1.0
            if isinstance(scheduler, RFlowScheduler):  # alpha + sigma = 1 instead of alpha^2 + sigma^2 = 1
                scale = 1 / (snr.sigmoid().sqrt() + (-snr).sigmoid().sqrt())
            alpha, sigma = snr.sigmoid().sqrt() * scale, (-snr).sigmoid().sqrt() * scale
            z = alpha * images[b].double() + sigma * noise
            for k, law in enumerate(network.classes):
                predicted = law.epsilon(z[None], alpha.reshape(1, 1, 1, 1), sigma.reshape(1, 1, 1, 1))[0]
                expected = (predicted - noise).square().mean().item()
                assert errors.values[b, k, n].item() == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("num_classes", [2, 3, 20])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 6), (1, 4, 2, 4), (3, 2, 2, 2)], ids=str)
def test_classes_channels_and_dimensions(num_classes, shape, device):
    generator = torch.Generator().manual_seed(0)
    classes = [
        Mixture(2 * torch.randn(1, *shape, generator=generator), torch.full((1, *shape), 0.3))
        for _ in range(num_classes)
    ]
    images = make_images(classes, 1)
    inferer = DiffusionClassifierInferer(ddpm(), num_classes, num_draws=5, map_weighting="uniform")
    result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, classes), error_maps=True)
    assert isinstance(result, Classification)
    assert result.predicted.tolist() == list(range(num_classes)), "well separated classes"
    assert result.probabilities.shape == result.vote_share.shape == (num_classes, num_classes)
    assert result.errors.values.shape == (num_classes, num_classes, 5)
    assert result.error_maps.shape == (num_classes, num_classes, *shape[1:])
    assert result.network_evaluations.tolist() == [5 * num_classes] * num_classes
    torch.testing.assert_close(result.error_maps.flatten(2).mean(2), result.errors.values.mean(2), rtol=1e-4, atol=1e-6)
    assert set(result.uncertainty) == {
        "vote_variance",
        "vote_entropy",
        "vote_margin",
        "vote_share_low",
        "vote_share_high",
        "entropy_monte_carlo",
        "entropy_remaining",
        "probability_margin",
        "probability_entropy",
    }


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("conditioning", ["class_labels", "crossattn"])
def test_unets(dims, channels, conditioning, device):
    inferer = DiffusionClassifierInferer(ddpm(), 3, num_draws=2, conditioning=conditioning)
    network = tiny_unet(conditioning, classes=3, channels=channels, dims=dims).to(device)
    images = torch.randn(2, channels, *[4] * dims, generator=torch.Generator().manual_seed(0)).to(device)
    values = inferer.compute_errors(images, network).values
    assert values.shape == (2, 3, 2)
    assert (values[:, 0] - values[:, 1]).abs().min() > 1e-6, "the class reaches the network"


def test_callable_conditioning():
    def scaled(labels):
        return {"class_labels": 1 - labels}

    plain, swapped = (DiffusionClassifierInferer(ddpm(), conditioning=how) for how in ("class_labels", scaled))
    images, network = images_of(), exact(plain)
    a, b = (inferer.compute_errors(images, network).values for inferer in (plain, swapped))
    assert torch.equal(a, b.flip(1))


def test_further_arguments_reach_the_network():
    class Scaled(torch.nn.Module):
        def forward(self, x, timesteps, context=None, class_labels=None, scale=0.0):
            return x * scale + class_labels.reshape(-1, 1, 1, 1)

    inferer, images, network = DiffusionClassifierInferer(ddpm(), num_draws=3), images_of(), Scaled().eval()
    without, given = (inferer.compute_errors(images, network, **kwargs).values for kwargs in ({}, {"scale": 1.0}))
    assert not torch.equal(without, given)
    torch.testing.assert_close(
        inferer(images, network, scale=1.0),
        classify_errors(inferer.compute_errors(images, network, scale=1.0)).probabilities,
    )


# What the results do not depend on


def test_votes_are_the_same_in_every_parameterisation():
    votes, values = {}, {}
    for prediction in PREDICTIONS:
        inferer = DiffusionClassifierInferer(ddpm(prediction), num_classes=3, num_draws=51)
        errors = inferer.compute_errors(images_of("three"), exact(inferer, "three"))
        votes[prediction], values[prediction] = count_votes(errors), errors.values
    for prediction in PREDICTIONS[1:]:
        torch.testing.assert_close(values[prediction], values["epsilon"], rtol=2e-4, atol=1e-6)
        assert torch.equal(votes[prediction], votes["epsilon"])


def test_votes_are_the_same_under_any_positive_weighting_of_draws():
    inferer = DiffusionClassifierInferer(ddpm())
    errors = inferer.compute_errors(images_of(), exact(inferer))
    weight = torch.rand(51, generator=torch.Generator().manual_seed(0)) + 0.01
    weighted = DenoisingErrors(errors.values * weight, errors.timesteps, errors.log_snr)
    assert torch.equal(count_votes(weighted), count_votes(errors))
    for weighting in ("uniform", "elbo", "min_snr"):
        assert torch.equal(classify_errors(errors, weighting=weighting).vote_share, classify_errors(errors).vote_share)


@pytest.mark.parametrize("rule", RULES)
def test_permuting_classes_permutes_results(rule):
    inferer = DiffusionClassifierInferer(ddpm(), num_classes=3, rule=rule)
    classes, order = make_classes("three"), [2, 0, 1]
    images = make_images(classes, 4)
    plain = inferer.classify(images, ExactDenoiser(inferer.process, classes), error_maps=True)
    permuted = inferer.classify(images, ExactDenoiser(inferer.process, [classes[k] for k in order]), error_maps=True)
    assert torch.equal(permuted.probabilities, plain.probabilities[:, order])
    assert torch.equal(permuted.errors.values, plain.errors.values[:, order])
    assert torch.equal(permuted.error_maps, plain.error_maps[:, order])
    assert torch.equal(torch.tensor(order)[permuted.predicted], plain.predicted)


def test_an_untrained_network_favours_no_class():
    network = tiny_unet(classes=3, seed=None)
    for rule in RULES:
        inferer = DiffusionClassifierInferer(ddpm(), num_classes=3, num_draws=4, rule=rule)
        result = inferer.classify(torch.rand(2, 1, 8, 8), network)
        torch.testing.assert_close(result.vote_share, torch.full((2, 3), 1 / 3))
        torch.testing.assert_close(result.probabilities, torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 256])
def test_batch_size_changes_no_bit(batch_size):
    reference = DiffusionClassifierInferer(ddpm("v_prediction"), 3, num_draws=11)
    images, classes = images_of("three", each=2), make_classes("three")
    expected = reference.classify(images, ExactDenoiser(reference.process, classes), error_maps=True)
    inferer = DiffusionClassifierInferer(ddpm("v_prediction"), 3, num_draws=11, batch_size=batch_size)
    network = ExactDenoiser(inferer.process, classes)
    result = inferer.classify(images, network, error_maps=True)
    assert torch.equal(result.errors.values, expected.errors.values)
    assert torch.equal(result.error_maps, expected.error_maps)
    assert torch.equal(result.probabilities, expected.probabilities)
    assert max(network.calls) <= batch_size
    assert sum(network.calls) == 6 * 3 * 11


def test_order_and_company_change_no_bit():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=11, batch_size=7)
    images, network = images_of(each=6), exact(inferer)
    values = inferer.compute_errors(images, network).values
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(inferer.compute_errors(images[order], network).values, values[order])
    for part in (slice(3, 4), slice(2, 9)):
        assert torch.equal(inferer.compute_errors(images[part], network).values, values[part])
    twice = inferer.compute_errors(images[[5, 5]], network).values
    assert torch.equal(twice[0], twice[1])
    assert torch.equal(twice[0], values[5])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 256])
def test_a_real_unet_agrees_up_to_rounding(real, batch_size, device):
    reference, network, images = real
    expected = reference.compute_errors(images, network).values
    inferer = DiffusionClassifierInferer(ddpm("v_prediction"), num_draws=5, batch_size=batch_size)
    order = [4, 1, 5]
    got = inferer.compute_errors(images[order].to(device), network.to(device)).values
    network.cpu()
    torch.testing.assert_close(got.cpu(), expected[order], rtol=1e-5 if device == "cpu" else 1e-3, atol=1e-7)


def test_prefix_of_independent_levels_is_a_smaller_run():
    images = images_of()
    many, few = (DiffusionClassifierInferer(ddpm(), num_draws=n, noise_levels="uniform") for n in (32, 8))
    first = many.compute_errors(images, exact(many)).first(8)
    alone = few.compute_errors(images, exact(few))
    assert torch.equal(first.values, alone.values)
    assert torch.equal(first.timesteps, alone.timesteps)


def test_seed():
    a, b, c = (DiffusionClassifierInferer(ddpm(), num_draws=5, seed=seed) for seed in (0, 0, 1))
    images, network = images_of(), exact(a)
    values = [inferer.compute_errors(images, network).values for inferer in (a, b, c)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_global_random_state_neither_matters_nor_changes():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5)
    images, network = images_of(), exact(inferer)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = inferer.compute_errors(images, network).values
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(inferer.compute_errors(images, network).values, values)


@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_default_precision_of_the_process_changes_no_bit(real, stopping):
    _, network, images = real
    inferer = DiffusionClassifierInferer(ddpm("v_prediction"), num_draws=5, stopping=stopping)
    expected = inferer.classify(images, network).errors.values
    torch.set_default_dtype(torch.float64)
    try:
        values = inferer.classify(images, network).errors.values
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True)


def test_images_of_any_kind():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5)
    images, network = images_of(), exact(inferer)
    values = inferer.compute_errors(images, network).values
    for same in (MetaTensor(images), images.double(), images.clone().requires_grad_()):
        other = inferer.compute_errors(same, network).values
        assert torch.equal(other, values)
        assert type(other) is torch.Tensor


# Stopping


@pytest.mark.parametrize("block", [1, 4])
def test_curtailed_vote_gives_the_same_class_for_less(block):
    images, classes = images_of("three", each=8), make_classes("three")
    full = DiffusionClassifierInferer(ddpm(), 3, num_draws=21)
    short = DiffusionClassifierInferer(ddpm(), 3, num_draws=21, stopping=CurtailedVote(block))
    expected = full.classify(images, ExactDenoiser(full.process, classes))
    network = ExactDenoiser(short.process, classes)
    result = short.classify(images, network)
    assert torch.equal(result.predicted, expected.predicted)
    assert result.network_evaluations.sum() < 0.9 * expected.network_evaluations.sum()
    assert int(result.network_evaluations.sum()) == sum(network.calls)
    made = result.errors.evaluated
    assert torch.equal(result.errors.values[made], expected.errors.values[made])
    assert torch.equal(result.errors.timesteps, expected.errors.timesteps)
    assert torch.equal(short.compute_errors(images, network).values, expected.errors.values), "the exact path"
    assert short.error_maps(images, network).shape == (24, 3, 4, 4)


def test_early_stop_is_the_result_of_the_draws_made():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=9, stopping=CurtailedVote())
    images, network = images_of(), exact(inferer)
    result = inferer.classify(images, network)
    exact_path = inferer.compute_errors(images, network)
    for b, cost in enumerate(result.network_evaluations.tolist()):
        alone = classify_errors(exact_path.first(cost // 2)[b : b + 1])
        assert torch.equal(result.vote_share[b : b + 1], alone.vote_share)


# As a MONAI inferer


def test_is_a_monai_inferer():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5)
    assert isinstance(inferer, Inferer)
    images, network = images_of(), exact(inferer)
    probabilities = inferer(images, network)
    assert torch.equal(probabilities, inferer.classify(images, network).probabilities)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
    assert torch.equal(
        inferer.error_maps(images, network), inferer.classify(images, network, error_maps=True).error_maps
    )


def test_results_may_be_used_in_autograd():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5)
    errors = inferer.compute_errors(images_of(), exact(inferer))
    assert not errors.values.requires_grad
    temperature = torch.tensor(1.0, requires_grad=True)
    (errors.values * temperature).sum().backward()
    torch.testing.assert_close(temperature.grad, errors.values.sum())


@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_no_images(stopping):
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5, stopping=stopping)
    result = inferer.classify(torch.zeros(0, 1, 4, 4), exact(inferer))
    assert len(result) == 0
    assert result.probabilities.shape == (0, 2)


def test_half_precision_of_one_call_does_not_touch_the_next():
    scheduler = ddpm()
    inferer = DiffusionClassifierInferer(scheduler, num_draws=5)
    images, network = images_of(), exact(inferer)
    values = inferer.compute_errors(images, network).values
    table = scheduler.alphas_cumprod.clone()
    inferer.compute_errors(images.half(), network)
    assert torch.equal(scheduler.alphas_cumprod, table)
    assert torch.equal(inferer.compute_errors(images, network).values, values)
    assert isinstance(inferer.scheduler, Scheduler)


def test_stored_values_become_errors_again():
    inferer = DiffusionClassifierInferer(ddpm(), num_draws=5)
    errors = inferer.compute_errors(images_of(), exact(inferer))
    again = inferer.errors_from_values(errors.values, 16)
    for weighting in ("uniform", "elbo", "min_snr"):
        a, b = (classify_errors(e, "mean", weighting=weighting).probabilities for e in (errors, again))
        assert torch.equal(a, b)
