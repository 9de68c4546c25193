"""A denoiser and its inferer as an ordinary classifier network."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from monai.visualize import OcclusionSensitivity

from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import network_hash
from monai_diffclf.networks.nets import DiffusionClassifier, SliceNetwork, SlidingWindowNetwork, WaveletNetwork
from tests.closed_form import ExactDenoiser, Mixture
from tests.tiny_unet import tiny_unet


@pytest.fixture
def classifier() -> DiffusionClassifier:
    return DiffusionClassifier(
        tiny_unet(wavelet=True), DiffusionClassifierInferer(DDPMScheduler(100), num_draws=3)
    ).eval()


IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_forward_is_the_inferer(classifier, device):
    images = IMAGES.to(device)
    expected = classifier.inferer(images, classifier.network.to(device))
    assert torch.equal(classifier(images), expected)


def test_refuses_training_mode(classifier):
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode"):
        classifier.train()(IMAGES)


def test_state_dict_has_the_network_under_its_name(classifier):
    assert set(classifier.state_dict()) == {f"network.{key}" for key in classifier.network.state_dict()}


def test_loads_its_own_weights_and_those_of_the_denoiser_alone(classifier):
    other = tiny_unet(wavelet=True, seed=1)
    assert not torch.equal(other.unet.conv_in.conv.weight, classifier.network.unet.conv_in.conv.weight)
    for state in (other.state_dict(), {f"network.{key}": value for key, value in other.state_dict().items()}):
        keys = list(state)
        fresh = DiffusionClassifier(tiny_unet(wavelet=True), classifier.inferer)
        assert str(fresh.load_state_dict(state)) == "<All keys matched successfully>"
        assert torch.equal(fresh.network.unet.conv_in.conv.weight, other.unet.conv_in.conv.weight)
        assert list(state) == keys, "the given dict is left alone"


@pytest.mark.parametrize("wrap", [SliceNetwork, WaveletNetwork, lambda network: SlidingWindowNetwork(network, 4)])
def test_a_denoiser_whose_own_names_begin_with_network(wrap, classifier):
    inner = tiny_unet(seed=1)
    for state in (wrap(inner).state_dict(), DiffusionClassifier(wrap(inner), classifier.inferer).state_dict()):
        fresh = DiffusionClassifier(wrap(tiny_unet()), classifier.inferer)
        assert str(fresh.load_state_dict(state)) == "<All keys matched successfully>"
        assert network_hash(fresh.network.network) == network_hash(inner)


def test_loads_inside_another_module(classifier):
    outer = torch.nn.ModuleDict(
        {"model": DiffusionClassifier(tiny_unet(wavelet=True), classifier.inferer), "head": torch.nn.Linear(1, 1)}
    )
    state = {f"model.{key}": value for key, value in tiny_unet(wavelet=True, seed=1).state_dict().items()}
    state |= {f"head.{key}": value for key, value in outer["head"].state_dict().items()}
    outer.load_state_dict(state)
    assert torch.equal(
        outer["model"].network.unet.conv_in.conv.weight, tiny_unet(wavelet=True, seed=1).unet.conv_in.conv.weight
    )


def test_weights_of_another_network_are_refused(classifier):
    with pytest.raises(RuntimeError, match="Missing key"):
        classifier.load_state_dict({"weight": torch.zeros(1)})


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # MONAI's own
def test_occlusion_map_of_monai(device):
    # Class 1 differs from class 0 in one corner: occluding it, and only it, changes the decision.
    means = torch.zeros(2, 1, 8, 8)
    means[1, :, :4, :4] = 2.0
    laws = [Mixture(mean[None], torch.full((1, 1, 8, 8), 0.3)) for mean in means]
    inferer = DiffusionClassifierInferer(DDPMScheduler(100, schedule="cosine_log_snr"), num_draws=9, batch_size=4096)
    classifier = DiffusionClassifier(ExactDenoiser(inferer.process, laws), inferer).eval().to(device)
    occlusion = OcclusionSensitivity(classifier, mask_size=4, n_batch=16, overlap=0.0, mode=0.0, verbose=False)
    maps, _ = occlusion(means[1:].to(device))
    assert maps.shape == (1, 2, 8, 8)
    assert maps[0, 1].argmin() == 0
    assert maps[0, 1, 0, 0] < maps[0, 1, 4:, 4:].min() - 0.15
