"""The one place where a network is called: every answer it gives follows from the prediction and the process."""

from __future__ import annotations

import re

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from monai_diffclf.networks import Denoiser
from monai_diffclf.networks.schedulers import VPSDE, NoiseProcess, SDEProcess
from tests.closed_form import ExactDenoiser, Mixture

SHAPE = (2, 4, 4)
PROCESSES = {
    "DDPM, epsilon": lambda: NoiseProcess.of(DDPMScheduler(100, prediction_type="epsilon")),
    "DDPM, sample": lambda: NoiseProcess.of(DDPMScheduler(100, prediction_type="sample")),
    "DDIM, v": lambda: NoiseProcess.of(DDIMScheduler(100, prediction_type="v_prediction")),
    "RFlow": lambda: NoiseProcess.of(RFlowScheduler(100)),
    "SDE, score": lambda: SDEProcess(VPSDE()),
}


def laws(count: int = 3) -> list[Mixture]:
    generator = torch.Generator().manual_seed(3)
    return [Mixture(torch.randn(1, *SHAPE, generator=generator), torch.full((1, *SHAPE), 0.5)) for _ in range(count)]


def task(process: NoiseProcess, count: int = 6) -> tuple[torch.Tensor, ...]:
    """Noisy images of the classes in turn, their noise, clean images, timesteps and labels."""
    labels = torch.arange(count) % 3
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([laws()[k].sample(1, generator) for k in labels]).double()
    noise = torch.randn(images.shape, generator=generator).double()
    timesteps = process.timesteps((torch.arange(count) + 0.5) / count)
    return process.add_noise(images, noise, timesteps), noise, images, timesteps, labels


@pytest.mark.parametrize("name", PROCESSES)
def test_epsilon_and_clean_image_are_those_of_the_class(name):
    process = PROCESSES[name]()
    noisy, _, _, timesteps, labels = task(process)
    denoiser = Denoiser(ExactDenoiser(process, laws()), process, 3, dtype=torch.float64)
    alpha, sigma = (f.reshape(-1, 1, 1, 1) for f in process.alpha_sigma(timesteps))
    expected = torch.cat(
        [laws()[k].epsilon(noisy[i : i + 1], alpha[i : i + 1], sigma[i : i + 1]) for i, k in enumerate(labels)]
    )
    torch.testing.assert_close(denoiser.epsilon(noisy, timesteps, labels), expected, rtol=1e-5, atol=1e-5)
    clean = denoiser.clean(noisy, timesteps, labels)
    torch.testing.assert_close(alpha * clean + sigma * expected, noisy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_target_is_what_would_make_every_answer_right(name):
    process = PROCESSES[name]()
    noisy, noise, images, timesteps, labels = task(process)
    target = process.target(images, noise, timesteps)
    denoiser = Denoiser(lambda x, timesteps, class_labels: target, process, 3, dtype=torch.float64)
    torch.testing.assert_close(denoiser.epsilon(noisy, timesteps, labels), noise, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(denoiser.clean(noisy, timesteps, labels), images, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_guidance_extrapolates(name):
    """Of Gaussians with one covariance, guidance by w is the class with the mean (1 + w) mu_k - w mu_away."""
    process = PROCESSES[name]()
    noisy, _, _, timesteps, _ = task(process)
    labels, away = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([1, 0, 2, 2, 0, 1])
    network = ExactDenoiser(process, laws())
    denoiser = Denoiser(network, process, 2, null_class=True, dtype=torch.float64)
    guided = denoiser.clean(noisy, timesteps, labels, away=away, guidance=1.5)
    assert network.calls == [6, 4], "the same class twice is evaluated once"
    for i, (k, j) in enumerate(zip(labels, away, strict=True)):
        shifted = Mixture(2.5 * laws()[k].means - 1.5 * laws()[j].means, laws()[k].stds)
        alone = Denoiser(ExactDenoiser(process, [shifted]), process, 1, dtype=torch.float64)
        expected = alone.clean(noisy[i : i + 1], timesteps[i : i + 1], torch.zeros(1, dtype=torch.long))
        torch.testing.assert_close(guided[i : i + 1], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(denoiser.clean(noisy, timesteps, labels, away=away), denoiser.clean(noisy, timesteps, labels)), (
        "no guidance, nothing to guide away from"
    )


@pytest.mark.parametrize("size", [1, 4, 100])
def test_calls_are_full_and_order_is_kept(size):
    process = PROCESSES["DDIM, v"]()
    noisy, _, _, timesteps, labels = task(process, 9)
    network = ExactDenoiser(process, laws())
    got = Denoiser(network, process, 3, batch_size=size).predict(noisy, timesteps, labels)
    assert network.calls[:-1] == [size] * (len(network.calls) - 1)
    assert sum(network.calls) == 9
    assert got.dtype == torch.float64, "what comes back has the type of what was given"
    torch.testing.assert_close(got, Denoiser(network, process, 3).predict(noisy, timesteps, labels))


def test_one_timestep_may_stand_for_all():
    process = PROCESSES["DDPM, epsilon"]()
    noisy, _, _, _, labels = task(process)
    denoiser = Denoiser(ExactDenoiser(process, laws()), process, 3)
    every = denoiser.clean(noisy, torch.full((6,), 40), labels)
    assert torch.equal(denoiser.clean(noisy, torch.tensor(40), labels), every)


def test_a_predicted_variance_is_left_out():
    process = PROCESSES["DDIM, v"]()
    noisy, _, _, timesteps, labels = task(process)
    exact = ExactDenoiser(process, laws())

    def with_variance(x, **arguments):
        return torch.cat([exact(x, **arguments), torch.full_like(x, 7.0)], dim=1)

    plain, learned = Denoiser(exact, process, 3), Denoiser(with_variance, process, 3)
    for answer in ("predict", "epsilon", "clean"):
        assert torch.equal(
            getattr(plain, answer)(noisy, timesteps, labels), getattr(learned, answer)(noisy, timesteps, labels)
        )


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_other_shapes_are_refused(channels):
    def network(x, timesteps, class_labels):
        return x[:, :1].repeat(1, channels, 1, 1)

    denoiser = Denoiser(network, DDPMScheduler(10))
    with pytest.raises(
        ValueError, match=rf"prediction of the input's shape \[1, 2, 4, 4\], got \[1, {channels}, 4, 4\]"
    ):
        denoiser.predict(torch.zeros(1, *SHAPE), torch.tensor(5), torch.tensor([0]))


def test_a_network_without_a_graph_is_refused_where_one_is_needed():
    @torch.no_grad()
    def network(x, timesteps, class_labels):
        return 2 * x

    denoiser = Denoiser(network, DDPMScheduler(10))
    noisy = torch.zeros(1, *SHAPE, requires_grad=True)
    with pytest.raises(ValueError, match="expected a prediction that can be differentiated by x"):
        denoiser.epsilon(noisy, torch.tensor(5), torch.tensor([0]))


def test_reduced_precision_and_back():
    linear = torch.nn.Conv2d(2, 2, 1)

    def network(x, timesteps, class_labels):
        return linear(x)

    denoiser = Denoiser(network, DDPMScheduler(10), amp_dtype=torch.bfloat16)
    noisy, arguments = torch.rand(3, *SHAPE), (torch.tensor(5), torch.tensor([0, 1, 0]))
    reduced, full = denoiser.predict(noisy, *arguments), denoiser.predict(noisy, *arguments, full_precision=True)
    assert reduced.dtype == full.dtype == torch.float32
    assert torch.equal(full, linear(noisy))
    assert 0 < (reduced - full).abs().max() < 0.05


def test_the_null_class_is_asked_for_where_it_is_needed():
    table = torch.tensor([[10.0], [20.0]])

    def conditioning(labels):
        return {"context": table[labels]}

    def network(x, timesteps, context):
        return x + context.reshape(-1, 1, 1, 1)

    noisy, now = torch.zeros(1, *SHAPE), torch.tensor(5)
    denoiser = Denoiser(network, DDPMScheduler(10), conditioning=conditioning)
    assert float(denoiser.predict(noisy, now, torch.tensor([1]))[0, 0, 0, 0]) == 20
    with pytest.raises(IndexError):
        Denoiser(network, DDPMScheduler(10), conditioning=conditioning, null_class=True)


def test_a_prediction_that_is_no_tensor_is_refused():
    def network(x, timesteps, class_labels=None):
        return (x, x)

    with pytest.raises(TypeError, match="network: expected a prediction that is a tensor .*, got tuple"):
        Denoiser(network, DDPMScheduler(10)).predict(
            torch.zeros(1, 1, 4, 4), torch.tensor(3), torch.tensor([0]), full_precision=True
        )


@pytest.mark.parametrize("text", ["DefaultCPUAllocator: can't allocate memory: you tried", "CUDA out of memory"])
def test_memory_that_ran_out_is_said_as_it_is_and_not_laid_on_the_images(text):
    def network(x, timesteps, class_labels):
        raise RuntimeError(text)

    denoiser = Denoiser(network, DDPMScheduler(100), 2)
    with pytest.raises(RuntimeError, match=re.escape(text)) as caught:
        denoiser.predict(torch.zeros(1, 1, 4, 4), torch.tensor([5]), torch.tensor([0]))
    assert type(caught.value) is RuntimeError


@pytest.mark.parametrize(("weights", "images"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_weights_of_another_precision_are_named(weights: torch.dtype, images: torch.dtype) -> None:
    class Layer(torch.nn.Conv2d):
        def forward(self, x, timesteps, class_labels=None):
            return super().forward(x)

    network = Layer(2, 2, 1, dtype=weights)
    denoiser = Denoiser(network, DDPMScheduler(100), 2, dtype=images)
    asked = (torch.zeros(1, 2, 4, 4, dtype=images), torch.tensor(3), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match=re.escape(f"its weights are {weights}, call network.to({images})")):
        denoiser.predict(*asked)
    network.to(images)
    assert denoiser.predict(*asked).dtype == images
    with pytest.raises(ValueError, match="give both the same channels and dimensions"):
        denoiser.predict(torch.zeros(1, 3, 4, 4, dtype=images), *asked[1:])


@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16])
def test_an_autocast_around_changes_nothing(amp_dtype):
    network = torch.nn.Conv2d(2, 2, 3, padding=1)
    kinds = []

    def called(x, timesteps, class_labels):
        kinds.append((out := network(x)).dtype)
        return out

    denoiser = Denoiser(called, DDPMScheduler(100), 2, amp_dtype=amp_dtype)
    noisy, labels = torch.randn(3, *SHAPE), torch.tensor([0, 1, 0])
    alone = denoiser.clean(noisy, torch.tensor(50), labels)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(denoiser.clean(noisy, torch.tensor(50), labels), alone)
        denoiser.predict(noisy, torch.tensor(50), labels, full_precision=True)
    assert kinds == [*[amp_dtype or torch.float32] * 2, torch.float32]
