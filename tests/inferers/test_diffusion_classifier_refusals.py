"""What the inferer refuses, and what it says."""

from __future__ import annotations

import warnings

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.schedulers import VESDE, SDEProcess
from tests.tiny_unet import tiny_unet


class Zero(torch.nn.Module):
    """Predicts zero; holds a submodule with a mode of its own."""

    def __init__(self, like=torch.zeros_like) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Dropout())
        self.like = like

    def forward(self, x, timesteps, context=None, class_labels=None):
        return self.like(x)


IMAGES = torch.zeros(3, 1, 4, 4)


def make(**kwargs) -> DiffusionClassifierInferer:
    return DiffusionClassifierInferer(DDPMScheduler(10), **{"num_draws": 2, **kwargs})


METHODS = ["__call__", "classify", "compute_errors", "error_maps"]


@pytest.mark.parametrize("method", METHODS)
def test_training_mode(method):
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode.*call network.eval"):
        getattr(make(), method)(IMAGES, Zero())


@pytest.mark.parametrize("method", METHODS)
def test_a_submodule_in_training_mode(method):
    network = Zero().eval()
    network.inner[0].train()
    assert not network.training
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode"):
        getattr(make(), method)(IMAGES, network)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite_are_named(method, value):
    images = IMAGES.clone()
    images[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"images: expected finite values, got NaN or infinity in image\(s\) \[1\]"):
        getattr(make(), method)(images, Zero().eval())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_images(dtype):
    with pytest.raises(TypeError, match=f"images: expected floating point values scaled as in training, got {dtype}"):
        make()(IMAGES.to(dtype), Zero().eval())


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (2, 0, 4, 4), (2, 1, 0, 4), (1, 1, 2, 2, 2, 2)])
def test_shapes(shape):
    with pytest.raises(ValueError, match=r"images: expected shape \[B, C, H, W\] or \[B, C, H, W, D\], got \["):
        make()(torch.zeros(shape), Zero().eval())


def test_images_must_be_a_tensor():
    with pytest.raises(TypeError, match=r"images: expected a Tensor \[B, C, \*spatial\], got ndarray"):
        make()(IMAGES.numpy(), Zero().eval())


def test_prediction_of_another_shape():
    network = Zero(lambda x: torch.cat([x, x, x], 1)).eval()
    message = r"network: expected a prediction of the input's shape \[12, 1, 4, 4\], got \[12, 3, 4, 4\].*variance"
    with pytest.raises(ValueError, match=message):
        make()(IMAGES, network)


@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_predictions_that_are_not_finite(stopping):
    def broken(x):
        return torch.where(x == x.flatten(1).max(), torch.nan, 0.0)

    with pytest.raises(ValueError, match="network: expected finite predictions, got NaN or infinity for 1 of 3 images"):
        make(stopping=stopping, num_draws=1, num_classes=2)(
            IMAGES + torch.tensor([0, 50, 0]).view(3, 1, 1, 1), Zero(broken).eval()
        )


def test_positional_arguments():
    with pytest.raises(ValueError, match="args: expected keyword arguments for the network only, got 1 positional"):
        make()(IMAGES, Zero().eval(), torch.zeros(3))


def test_error_maps_with_a_stopping_rule():
    with pytest.raises(ValueError, match=r"error_maps: expected False with a stopping rule; call error_maps\(\)"):
        make(stopping=CurtailedVote()).classify(IMAGES, Zero().eval(), error_maps=True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_classes": 1}, "num_classes: expected an integer of at least 2, got 1"),
        ({"num_classes": 2.0}, "num_classes: expected an integer of at least 2, got 2.0"),
        ({"num_draws": 0}, "num_draws: expected a positive integer, got 0"),
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
        ({"rule": "median"}, r"rule: expected one of \['vote', 'mean', 'weighted_vote'\], got 'median'"),
        (
            {"noise_levels": "all"},
            r"noise_levels: expected one of \['stratified', 'uniform'\] or a LevelSampling, got 'all'",
        ),
        ({"conditioning": "film"}, "conditioning: expected 'class_labels', 'crossattn' or a callable, got 'film'"),
        (
            {"weighting": "snr"},
            r"weighting: expected one of \['uniform', 'elbo', 'min_snr'\], LevelWeights or a tensor, got 'snr'",
        ),
        ({"temperature": 0}, "temperature: expected a positive number, got 0"),
        ({"temperature": float("inf")}, "temperature: expected a positive number, got inf"),
        (
            {"stopping": CurtailedVote(), "rule": "mean"},
            r"CurtailedVote is valid for rules \['vote', 'weighted_vote'\], not 'mean'",
        ),
        ({"seed": 1.5}, "seed: expected an integer of 64 bits, got 1.5"),
    ],
)
def test_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stopping": 5}, "stopping: expected None or a StoppingRule, got int"),
        ({"conditioning": None}, "conditioning: expected a name or a callable, got NoneType"),
    ],
)
def test_settings_of_another_type(kwargs, message):
    with pytest.raises(TypeError, match=message):
        make(**kwargs)


@pytest.mark.parametrize("scheduler", [None, "ddpm", torch.nn.Linear(1, 1), DDPMScheduler])
def test_scheduler_of_another_type(scheduler):
    with pytest.raises(TypeError, match=r"scheduler: expected a monai.networks.schedulers.Scheduler, got "):
        DiffusionClassifierInferer(scheduler)


def test_unknown_prediction_type():
    scheduler = RFlowScheduler(10)
    scheduler.prediction_type = "score"
    with pytest.raises(ValueError, match=r"scheduler: expected prediction_type in .*, got 'score'"):
        DiffusionClassifierInferer(scheduler)


def test_images_that_noise_cannot_hide_are_warned_of_once():
    inferer = DiffusionClassifierInferer(DDPMScheduler(100, schedule="cosine"), num_draws=2)
    images = torch.rand(2, 1, 8, 8)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for factor in (2, 255, 254):
            inferer.classify(images * factor, tiny_unet())
    assert [str(warning.message)[:53] for warning in found] == ["images: expected values of the size of the noise, suc"]
    wide = SDEProcess(VESDE(sigma_min=1, sigma_max=300))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiffusionClassifierInferer(wide, num_draws=2).classify(images * 255, tiny_unet())
