"""Error maps are additive: their means over pixels are mean errors, those that decide where the weighting is theirs."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.classification import CurtailedVote, LevelSampling, LevelWeights, image_keys, mean_errors
from monai_diffclf.explain import decision_map, smooth_map
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.layers.haar import haar_forward
from tests.tiny_unet import tiny_unet

NARROW = {"schedule": "cosine_log_snr", "log_snr_min": -6.0, "log_snr_max": 6.0}
WEIGHTINGS = {
    "uniform": "uniform",
    "elbo": "elbo",
    "min_snr": "min_snr",
    "learned": LevelWeights(edges=(-1.0, 1.0), weights=(1.0, 4.0, 0.0)),
    "tensor": torch.linspace(0.5, 2, 6),
}
SAMPLING = LevelSampling(density=(0.5, 2.0, 0.5, 1.0), antithetic=(True, True, False, False))


def make(classes: int = 3, **settings) -> DiffusionClassifierInferer:
    scheduler = DDPMScheduler(1000, prediction_type="v_prediction", **NARROW)
    own = {"num_draws": 6, "temperature": 1e3, "map_weighting": None, **settings}
    return DiffusionClassifierInferer(scheduler, classes, **own)


def images_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def assert_additive(result) -> None:
    """Means of the maps are the mean errors, and differences of the maps sum to what decides."""
    maps, mean = result.error_maps, result.mean_error
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.double().flatten(2).mean(2), mean, rtol=3e-7, atol=0)
    order = mean.argsort(1)
    difference = decision_map(maps.double(), order[:, 0], rival=order[:, 1]).flatten(1)
    expected = (mean.sort(1).values[:, 1] - mean.sort(1).values[:, 0]) * difference.shape[1]
    # What rounding of the errors themselves to float32 allows, no more.
    slack = 3e-7 * float(mean.max()) * difference.shape[1]
    torch.testing.assert_close(difference.sum(1), expected, rtol=0, atol=slack)
    assert float(expected.abs().min()) > 10 * slack, "the test could not tell the classes apart"


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
def test_sum_is_what_decides(rule, weighting, device):
    inferer = make(rule=rule, weighting=WEIGHTINGS[weighting])
    network = tiny_unet(classes=3).to(device)
    assert_additive(inferer.classify(images_of(2, 1, 8, 8).to(device), network, error_maps=True))


@pytest.mark.parametrize("wavelet", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (4, 8, 4)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_two_and_three_dimensions(size, channels, wavelet, device):
    network = tiny_unet(classes=3, channels=channels, dims=len(size), wavelet=wavelet).to(device)
    result = make(weighting="elbo", rule="mean").classify(
        images_of(2, channels, *size).to(device), network, error_maps=True
    )
    assert result.error_maps.shape == (2, 3, *size)
    assert_additive(result)


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_importance_of_sampled_levels_counts(rule):
    inferer = make(noise_levels=SAMPLING, rule=rule, num_draws=8)
    assert inferer.draws.importance is not None
    result = inferer.classify(images_of(3, 1, 8, 8), tiny_unet(classes=3), error_maps=True)
    assert_additive(result)
    plain = result.errors.values.double().mean(2)
    assert (result.mean_error - plain).abs().max() > 1e-3, "importance that changes nothing tests nothing"


def test_rectified_flow():
    inferer = DiffusionClassifierInferer(RFlowScheduler(1000), 3, num_draws=6, temperature=1e3, map_weighting=None)
    assert_additive(inferer.classify(images_of(2, 1, 8, 8), tiny_unet(classes=3), error_maps=True))


def test_many_draws_and_small_calls():
    """Hundreds of draws, packed so that an image's evaluations lie across calls."""
    inferer = make(2, num_draws=301, batch_size=37)
    assert_additive(inferer.classify(images_of(1, 1, 8, 8), tiny_unet(classes=2), error_maps=True))


def test_reduced_precision_keeps_the_sum():
    """Near ties are made again in float32, which the maps must follow."""
    inferer = make(2, amp_dtype=torch.bfloat16, rule="vote")
    network, images = tiny_unet(classes=2), images_of(2, 1, 8, 8)
    result = inferer.classify(images, network, error_maps=True)
    assert int(result.network_evaluations.max()) > 12, "nothing was made again"
    torch.testing.assert_close(result.error_maps.double().flatten(2).mean(2), result.mean_error, rtol=3e-7, atol=0)
    exact = make(2, rule="vote").classify(images, network, error_maps=True)
    torch.testing.assert_close(result.error_maps, exact.error_maps, rtol=0.1, atol=0.02)


def test_maps_cost_no_evaluation_and_change_no_error():
    inferer, network, images = make(), tiny_unet(classes=3), images_of(2, 1, 8, 8)
    calls = []
    network.register_forward_pre_hook(lambda module, args, kwargs: calls.append(len(kwargs["x"])), with_kwargs=True)
    plain = inferer.classify(images, network)
    without = sum(calls)
    mapped = inferer.classify(images, network, error_maps=True)
    assert sum(calls) == 2 * without
    assert plain.error_maps is None
    assert torch.equal(plain.errors.values, mapped.errors.values)
    assert torch.equal(plain.probabilities, mapped.probabilities)


def test_maps_with_a_stopping_rule_are_those_of_all_draws():
    network, images = tiny_unet(classes=3), images_of(2, 1, 8, 8)
    maps = make(stopping=CurtailedVote()).error_maps(images, network)
    assert torch.equal(maps, make().error_maps(images, network))
    errors = make().compute_errors(images, network)
    torch.testing.assert_close(maps.double().flatten(2).mean(2), mean_errors(errors), rtol=3e-7, atol=0)


@pytest.mark.parametrize("size", [(8, 12), (4, 8, 4)], ids=str)
def test_pixels_hold_the_energy_of_the_wavelet_coefficients(size):
    """A block of pixels has the squared error of the coefficients it is made of."""
    dims, channels = len(size), 2
    network = tiny_unet(classes=2, channels=channels, dims=dims, wavelet=True)
    inferer, images = make(2, num_draws=3, map_smoothing=0), images_of(1, channels, *size)
    maps = inferer.error_maps(images, network)
    process, timesteps, key = inferer.process, inferer.process.timesteps(inferer.draws.levels), image_keys(images)[0]
    energy = torch.zeros(2, *(n // 2 for n in size))
    for n in range(3):
        noise, at = inferer.draws.noise(key, n, (channels, *size))[None], timesteps[n : n + 1]
        coefficients = [
            haar_forward(x, 1, spatial_dims=dims)
            for x in (process.add_noise(images, noise, at), process.target(images, noise, at))
        ]
        for k in range(2):
            with torch.no_grad():
                predicted = network.unet(coefficients[0], timesteps=at, class_labels=torch.tensor([k]))
            energy[k] += (predicted - coefficients[1]).square().sum(1)[0] * float(process.epsilon_factor(at))
    pool = torch.nn.functional.avg_pool2d if dims == 2 else torch.nn.functional.avg_pool3d
    blocks = pool(maps, 2)[0] * 2**dims * channels * 3
    torch.testing.assert_close(blocks, energy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighting", ["uniform", "elbo"])
def test_maps_are_weighted_and_smoothed_whatever_decides(weighting, device):
    """The default: min-SNR weighting and a sixteenth of the shortest side, and the decision as it was."""
    network, images = tiny_unet(classes=3).to(device), images_of(2, 1, 16, 24).to(device)
    settings = {"weighting": weighting, "rule": "mean"}
    inferer = DiffusionClassifierInferer(
        DDPMScheduler(1000, prediction_type="v_prediction", **NARROW), 3, num_draws=6, **settings
    )
    result, plain = inferer.classify(images, network, error_maps=True), make(**settings).classify(images, network)
    assert torch.equal(result.mean_error, plain.mean_error)
    means = result.error_maps.double().flatten(2).mean(2)
    torch.testing.assert_close(means, mean_errors(plain.errors, "min_snr"), rtol=3e-7, atol=0)
    raw = make(map_weighting="min_snr", map_smoothing=0).error_maps(images, network)
    torch.testing.assert_close(result.error_maps[0], smooth_map(raw[0], 1.0))
    assert (result.error_maps - raw).abs().max() > 0.1, "smoothing that changes nothing tests nothing"
    own = make(map_weighting="min_snr", map_smoothing=3.0).error_maps(images, network)
    torch.testing.assert_close(own[1], smooth_map(raw[1], 3.0))


def test_maps_in_reduced_precision_keep_their_own_sum():
    inferer = make(2, amp_dtype=torch.bfloat16, rule="vote", map_weighting="min_snr")
    result = inferer.classify(images_of(2, 1, 8, 8), tiny_unet(classes=2), error_maps=True)
    expected = mean_errors(result.errors, "min_snr")
    torch.testing.assert_close(result.error_maps.double().flatten(2).mean(2), expected, rtol=3e-7, atol=0)


def test_refused_settings_of_maps():
    with pytest.raises(ValueError, match=r"map_weighting: expected one of \['uniform', 'elbo', 'min_snr'\]"):
        make(map_weighting="snr")
    with pytest.raises(ValueError, match="map_smoothing: expected None or a number of pixels of at least 0, got -1"):
        make(map_smoothing=-1)
