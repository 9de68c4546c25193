"""An SDE as a noise process: what is predicted, how its errors relate to epsilon's, and how times are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks.nets import ScoreUNet
from monai_diffclf.networks.schedulers import VESDE, VPSDE, NoiseProcess, SchedulerSDE, SDEProcess, SubVPSDE
from tests.closed_form import make_classes

SDES = {
    "VP": lambda: VPSDE(),
    "sub-VP": lambda: SubVPSDE(),
    "VE": lambda: VESDE(),
    "scheduler": lambda: SchedulerSDE(DDPMScheduler(1000)),
}
PRESERVING = ("VP", "scheduler")
CASES = [
    (name, prediction)
    for name in SDES
    for prediction in ("score", "epsilon", "sample", "v_prediction")
    if prediction != "v_prediction" or name in PRESERVING
]
TIMES = torch.tensor([0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, noise and a disturbance, float64: what is tested are identities."""
    generator = torch.Generator().manual_seed(0)
    images, noise, other = (torch.randn(8, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    return images, noise, other


def columns(process: NoiseProcess, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, sigma = (factor.reshape(-1, 1, 1, 1) for factor in process.alpha_sigma(timesteps))
    return alpha, sigma


@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_exact_predictions_and_errors(name, prediction):
    process = SDEProcess(SDES[name](), prediction)
    images, noise, other = batch()
    alpha, sigma = columns(process, TIMES)
    noisy = process.add_noise(images, noise, TIMES)
    torch.testing.assert_close(noisy, alpha * images + sigma * noise)
    target = process.target(images, noise, TIMES)
    definition = {
        "score": -(noisy - alpha * images) / sigma**2,  # the gradient of log N(z; alpha x, sigma^2)
        "epsilon": noise,
        "sample": images,
        "v_prediction": alpha * noise - sigma * images,
    }
    torch.testing.assert_close(target, definition[prediction], rtol=1e-9, atol=1e-9)
    factors = process.alpha_sigma(TIMES)
    # Both ways divide by sigma or alpha, of which the smallest are 0.03 and 0.0066.
    torch.testing.assert_close(process.to_epsilon(target, noisy, *factors), noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.from_epsilon(noise, noisy, *factors), target, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.predict_sample(target, noisy, TIMES), images, rtol=1e-9, atol=1e-9)
    # A wrong prediction: the factor turns its error into that of epsilon.
    wrong = target + 0.1 * other
    epsilon = process.to_epsilon(wrong, noisy, *factors)
    factor = process.epsilon_factor(TIMES)
    assert factor.dtype == torch.float64
    torch.testing.assert_close(
        factor.reshape(-1, 1, 1, 1) * (wrong - target).square(), (epsilon - noise).square(), rtol=1e-7, atol=1e-12
    )
    torch.testing.assert_close(process.from_epsilon(epsilon, noisy, *factors), wrong, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler(1000, prediction_type=p) for p in ("epsilon", "sample", "v_prediction")] + [RFlowScheduler(1000)],
    ids=lambda s: f"{type(s).__name__}-{s.prediction_type}",
)
def test_epsilon_of_a_schedulers_process(scheduler):
    """`NoiseProcess.to_epsilon`, `from_epsilon` and `epsilon_factor` agree with each other and with the target."""
    process = NoiseProcess(scheduler)
    images, noise, other = batch()
    timesteps = torch.tensor([5, 50, 200, 400, 600, 800, 900, 990])
    noisy, target = process.add_noise(images, noise, timesteps), process.target(images, noise, timesteps)
    factors = process.alpha_sigma(timesteps)
    torch.testing.assert_close(process.to_epsilon(target, noisy, *factors), noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.from_epsilon(noise, noisy, *factors), target, rtol=1e-9, atol=1e-9)
    wrong = target + 0.1 * other
    error = (process.to_epsilon(wrong, noisy, *factors) - noise).square()
    factor = process.epsilon_factor(timesteps).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(factor * (wrong - target).square(), error, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", [DDPMScheduler, RFlowScheduler])
def test_timestep_of_a_log_snr(kind):
    process = NoiseProcess(kind(1000))
    timesteps = torch.tensor([1, 2, 100, 500, 998])
    got, alpha, sigma = process.at_log_snr(process.log_snr(timesteps))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, timesteps.float(), rtol=0, atol=1e-3)
    expected = process.alpha_sigma(timesteps)
    torch.testing.assert_close(alpha, expected[0])
    torch.testing.assert_close(sigma, expected[1])


def test_timestep_between_two_and_beyond_the_ends():
    process = NoiseProcess(DDPMScheduler(1000))
    level = process.log_snr(torch.tensor([300, 301]))
    timestep, alpha, sigma = process.at_log_snr(0.25 * level[:1] + 0.75 * level[1:])
    torch.testing.assert_close(timestep, torch.tensor([300.75]))
    torch.testing.assert_close(2 * (alpha / sigma).log(), 0.25 * level[:1] + 0.75 * level[1:])
    timestep, alpha, sigma = process.at_log_snr(torch.tensor([50.0, -50.0]))
    assert timestep.tolist() == [0.0, 999.0]
    torch.testing.assert_close(2 * (alpha / sigma).log(), process.log_snr(torch.tensor([0, 999])))
    sde = SDEProcess(VPSDE())
    timestep, alpha, sigma = sde.at_log_snr(torch.tensor([50.0, -50.0]))
    torch.testing.assert_close(timestep, torch.tensor([1e-5, 1.0]))
    torch.testing.assert_close(2 * (alpha / sigma).log(), torch.tensor(sde.sde.log_snr_range[::-1]).double())


@pytest.mark.parametrize("name", SDES)
def test_levels_of_the_log_snr_are_even(name, device):
    process = SDEProcess(SDES[name](), time_sampling="log_snr")
    levels = torch.linspace(0, 0.999, 400, dtype=torch.float64)
    times = process.timesteps(levels.to(device))
    assert times.dtype == torch.float32
    assert times.device.type == device
    low, high = process.sde.log_snr_range
    # Times are float32: a relative 6e-8 of t is as much of the log-SNR; times of a scheduler's SDE are exact to 2e-4.
    torch.testing.assert_close(process.log_snr(times.cpu()), high + levels * (low - high), rtol=0, atol=5e-4)
    rate = process.log_snr_rate(times)
    assert rate.dtype == torch.float64
    torch.testing.assert_close(rate.cpu(), torch.full((400,), high - low, dtype=torch.float64))


@pytest.mark.parametrize("name", SDES)
def test_uniform_levels(name):
    process = SDEProcess(SDES[name]())
    t_min = process.sde.t_min
    levels = torch.tensor([0.0, 0.25, 0.999], dtype=torch.float64)
    torch.testing.assert_close(process.timesteps(levels), (t_min + levels * (1 - t_min)).float())
    # Its rate integrates over the levels to the range; in log t the integrand is smooth.
    t = torch.logspace(math.log10(t_min), 0, 20001, dtype=torch.float64)
    levels = (t - t_min) / (1 - t_min)
    low, high = process.sde.log_snr_range
    integral = torch.trapezoid(process.log_snr_rate(t) * t / (1 - t_min), t.log())
    assert integral.item() == pytest.approx(high - low, rel=1e-4)


@pytest.mark.parametrize("name", SDES)
def test_log_snr_sampling_is_importance_sampling_of_the_likelihood_weighting(name):
    """E over uniform t of (g^2 / sigma^2) e(t) equals the range times E over log-SNR levels of e, for smooth e.

    Both sides by quadrature. e is the mean squared epsilon error of the exact score of N(0, 0.6^2), SNR 0.36 /
    (1 + SNR 0.36): what a trained network is near to.
    """
    sde = SDES[name]()
    even, uniform = (SDEProcess(sde, time_sampling=how) for how in ("log_snr", "uniform"))

    def error(log_snr: torch.Tensor) -> torch.Tensor:
        return 0.36 * log_snr.exp() / (1 + 0.36 * log_snr.exp())

    middle = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    low, high = sde.log_snr_range
    importance = (high - low) * error(even.log_snr(even.timesteps(middle).double())).mean()
    t = torch.logspace(math.log10(sde.t_min), 0, 40001, dtype=torch.float64)
    ratio = (sde.diffusion(t) / sde.alpha_sigma(t)[1]).square()
    weighted = torch.trapezoid(ratio * error(sde.log_snr(t)) * t, t.log())
    assert importance.item() == pytest.approx(weighted.item(), rel=1e-4)
    # The density of levels is in the process: rates weigh the draws of either sampling to the same.
    assert float(uniform.log_snr_rate(t)[100] / (1 - sde.t_min)) == pytest.approx(float(ratio[100]), rel=1e-9)
    assert importance.item() == pytest.approx(
        (even.log_snr_rate(middle) * error(even.log_snr(even.timesteps(middle).double()))).mean().item()
    )


@pytest.mark.parametrize("name", SDES)
def test_loss_is_denoising_score_matching_weighted_by_the_variance(name, device):
    """lambda(t) |s - grad log p(z | x)|^2 with lambda = sigma^2 (Song et al. 2021, equation 7), by hand."""
    process = SDEProcess(SDES[name](), "score")
    images, noise, other = (tensor.float() for tensor in batch())
    timesteps = TIMES[:8]
    noisy = process.add_noise(images, noise, timesteps)
    alpha, sigma = columns(process, timesteps)
    conditional = -(noisy.double() - alpha * images) / sigma.square()
    score = process.target(images, noise, timesteps) + other
    by_hand = (sigma.square() * (score.double() - conditional).square()).mean()
    targets = {
        "target": process.target(images, noise, timesteps).to(device),
        "timesteps": timesteps.to(device),
    }
    loss = DenoisingLoss(process, weighting="epsilon")(score.to(device), targets)
    # z is float32, and dividing by sigma enlarges its rounding, 6e-8 / 0.03.
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_loss_of_the_exact_score_is_the_least():
    """Moving the exact score either way raises the loss: the target of training is what classifies."""
    law = make_classes("mixture", (1, 2, 2))[1]
    process = SDEProcess(VPSDE(), "score", time_sampling="log_snr")
    generator = torch.Generator().manual_seed(0)
    images = law.sample(4000, generator)
    noise = torch.randn(images.shape, generator=generator)
    timesteps = process.timesteps((torch.arange(4000) + 0.5) / 4000)
    noisy = process.add_noise(images, noise, timesteps)
    alpha, sigma = columns(process, timesteps)
    score = -(law.epsilon(noisy.double(), alpha, sigma) / sigma).float()
    targets = {"target": process.target(images, noise, timesteps), "timesteps": timesteps}
    loss = DenoisingLoss(process, weighting="epsilon")
    assert all(loss(score * scale, targets) > loss(score, targets) for scale in (0.9, 1.1))


@pytest.mark.parametrize("time_sampling", ["uniform", "log_snr"])
@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_prepare_batch(name, prediction, time_sampling, device):
    process = SDEProcess(SDES[name](), prediction, time_sampling=time_sampling)
    generator = torch.Generator().manual_seed(0)
    data = {"image": torch.rand(8, 1, 4, 4, generator=generator), "label": torch.arange(8) % 2}
    noisy, targets, args, kwargs = DenoisingPrepareBatch(process, label_dropout=0.0)(data, device)
    assert args == ()
    assert noisy.shape == targets["target"].shape == (8, 1, 4, 4)
    assert {noisy.device.type, targets["target"].device.type, kwargs["timesteps"].device.type} == {device}
    timesteps = kwargs["timesteps"]
    assert torch.equal(timesteps, targets["timesteps"])
    assert timesteps.dtype == torch.float32
    assert ((timesteps >= process.sde.t_min * (1 - 1e-6)) & (timesteps <= 1)).all()
    # One level in each eighth of the range of what is even.
    low, high = process.sde.log_snr_range
    where = (
        (timesteps.cpu() - process.sde.t_min) / (1 - process.sde.t_min)
        if time_sampling == "uniform"
        else (high - process.log_snr(timesteps.cpu())) / (high - low)
    )
    assert sorted((where * 8).floor().clamp(0, 7).tolist()) == list(range(8))
    # A perfect prediction implies the image, where float32 keeps it: alpha^2 / sigma^2 above exp(-6).
    implied = process.predict_sample(targets["target"].double(), noisy.double(), timesteps)
    clear = process.log_snr(timesteps).cpu() > -6
    torch.testing.assert_close(implied.cpu().float()[clear], data["image"][clear], rtol=1e-3, atol=1e-3)


def test_trains_a_score_network(device):
    process = SDEProcess(VPSDE(), "score", time_sampling="log_snr")
    torch.manual_seed(0)
    network = ScoreUNet(process.sde, channels=(8, 16), embedding_channels=32, norm_num_groups=4).to(device)
    generator = torch.Generator().manual_seed(0)
    data = [
        {"image": 0.3 * torch.randn(1, 4, 4, generator=generator) + 2 * (i % 2) - 1, "label": i % 2} for i in range(64)
    ]
    loss, prepare = (
        DenoisingLoss(process, weighting="epsilon"),
        DenoisingPrepareBatch(process, label_dropout=0.0, seed=9),
    )
    everything = {"image": torch.stack([item["image"] for item in data]), "label": torch.arange(64) % 2}
    noisy, targets, _, kwargs = prepare(everything, device)

    def held_out() -> float:
        with torch.no_grad():
            return loss(network(noisy, **kwargs), targets).item()

    before, weights = held_out(), {name: value.clone() for name, value in network.named_parameters()}
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=60,
        train_data_loader=DataLoader(Dataset(data), batch_size=64),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-2),
        loss_function=loss,
        prepare_batch=DenoisingPrepareBatch(process),
        inferer=SimpleInferer(),
        decollate=False,
    )
    trainer.run()
    # From the score of N(0, 1), 0.56, towards that of N(+-1, 0.3^2): SNR 0.09 / (1 + SNR 0.09) is 0.48 on average.
    assert before == pytest.approx(0.57, abs=0.03)
    assert held_out() < 0.9 * before, "it learns"
    assert all(not torch.equal(value, weights[name]) for name, value in network.named_parameters())


def test_of_takes_processes_as_they_are():
    process = SDEProcess(VPSDE())
    assert NoiseProcess.of(process) is process
    scheduler = DDPMScheduler(10)
    assert torch.equal(
        NoiseProcess.of(scheduler).log_snr(torch.arange(10)), NoiseProcess(scheduler).log_snr(torch.arange(10))
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: SDEProcess(DDPMScheduler(10)),
            TypeError,
            r"sde: expected an SDE such as VPSDE\(\), got DDPMScheduler",
        ),
        (
            lambda: SDEProcess(VPSDE(), "velocity"),
            ValueError,
            r"prediction_type: expected one of \['score', 'epsilon', 'sample', 'v_prediction'\], got 'velocity'",
        ),
        (
            lambda: SDEProcess(SubVPSDE(), "v_prediction"),
            ValueError,
            "v_prediction is defined for variance preserving processes only, got SubVPSDE",
        ),
        (
            lambda: SDEProcess(VESDE(), "v_prediction"),
            ValueError,
            "v_prediction is defined for variance preserving processes only, got VESDE",
        ),
        (
            lambda: SDEProcess(VPSDE(), time_sampling="cosine"),
            ValueError,
            r"time_sampling: expected one of \['uniform', 'log_snr'\], got 'cosine'",
        ),
        (
            lambda: NoiseProcess.of(VPSDE()),
            TypeError,
            "scheduler: expected a monai.networks.schedulers.Scheduler, got VPSDE",
        ),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()
