"""The SDEs: their marginals against the moments' own differential equations, and everything that follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler
from scipy.integrate import solve_ivp
from scipy.stats import norm

from monai_diffclf.networks.schedulers import SDE, VESDE, VPSDE, NoiseProcess, SchedulerSDE, SubVPSDE

NARROW = {"schedule": "cosine_log_snr", "log_snr_min": -6.0, "log_snr_max": 6.0}
SDES = {
    "VP": lambda: VPSDE(),
    "VP, constant beta": lambda: VPSDE(2.0, 2.0),
    "sub-VP": lambda: SubVPSDE(),
    "VE": lambda: VESDE(),
    "linear DDPM": lambda: SchedulerSDE(DDPMScheduler(1000)),
    "vp_sde DDIM": lambda: SchedulerSDE(DDIMScheduler(200, schedule="vp_sde", beta_min=0.1, beta_max=20.0)),
    "cosine_log_snr PNDM": lambda: SchedulerSDE(PNDMScheduler(1000, skip_prk_steps=True, **NARROW)),
}
CONTINUOUS = ("VP", "VP, constant beta", "sub-VP", "VE")


@pytest.fixture(params=SDES)
def sde(request) -> SDE:
    return SDES[request.param]()


def times(sde: SDE, count: int = 201, margin: float = 0.0) -> torch.Tensor:
    """Times from t_min to 1, even in their logarithm below 0.1 so that the clean end is looked at too."""
    low = torch.logspace(math.log10(sde.t_min * (1 + margin)), -1, count, dtype=torch.float64)
    high = torch.linspace(0.1, 1 - margin, count, dtype=torch.float64)
    return torch.cat([low[low < 0.1], high])


def test_marginals_solve_the_equations_of_the_moments(sde):
    """d mean / dt = f mean and d var / dt = 2 f var + g^2 (Särkkä and Solin 2019, equation 5.51), from t_min on."""

    def rates(t: float, moments: np.ndarray) -> list[float]:
        f, g = float(sde.drift_rate(t)), float(sde.diffusion(t))
        return [f * moments[0], 2 * f * moments[1] + g**2]

    at = times(sde, 21).numpy()
    alpha, sigma = (factor.numpy() for factor in sde.alpha_sigma(torch.from_numpy(at)))
    # The rate of a SchedulerSDE is continuous but has kinks at its timesteps: no step may jump over one unseen.
    step = 0.5 / len(sde._level.x) if isinstance(sde, SchedulerSDE) else np.inf
    solved = solve_ivp(
        rates, (at[0], 1.0), [alpha[0], sigma[0] ** 2], t_eval=at, rtol=1e-9, atol=1e-16, max_step=step, method="RK45"
    )
    np.testing.assert_allclose(solved.y[0], alpha, rtol=2e-6)
    np.testing.assert_allclose(solved.y[1], sigma**2, rtol=2e-6)


def test_rates_are_derivatives(sde):
    """f = d log alpha / dt and the rate -d lambda / dt, by central differences, and g from both."""
    t = times(sde, 40, margin=0.01)
    if isinstance(sde, SchedulerSDE):
        # Differences across the kink at a timestep would be of neither side.
        steps = len(sde._level.x)
        t = (torch.floor(t * steps).clamp(1, steps - 1) + 0.5) / steps
    h = 1e-5 * t

    def slope(function) -> torch.Tensor:
        return (function(t + h) - function(t - h)) / (2 * h)

    # Error of the difference: (h / t)^2 times the third derivative, 1e-10 relative, and rounding 1e-16 / 1e-5.
    torch.testing.assert_close(-slope(sde.log_snr), sde.log_snr_rate(t), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(slope(lambda s: sde.alpha_sigma(s)[0].log()), sde.drift_rate(t), rtol=1e-5, atol=1e-7)
    alpha, sigma = sde.alpha_sigma(t)
    torch.testing.assert_close(sde.log_snr(t), 2 * (alpha.log() - sigma.log()), rtol=1e-9, atol=1e-9)
    # g^2 = d sigma^2 / dt - 2 f sigma^2, which never mentions the log-SNR.
    variance = slope(lambda s: sde.alpha_sigma(s)[1].square())
    torch.testing.assert_close(
        sde.diffusion(t).square(), variance - 2 * sde.drift_rate(t) * sigma.square(), rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("name", CONTINUOUS)
def test_rates_against_autograd(name):
    sde = SDES[name]()
    t = times(sde, 50).requires_grad_()
    (slope,) = torch.autograd.grad(sde.log_snr(t).sum(), t)
    torch.testing.assert_close(sde.log_snr_rate(t), -slope, rtol=1e-9, atol=0)
    if not isinstance(sde, VESDE):  # alpha is 1 there
        (slope,) = torch.autograd.grad(sde.alpha_sigma(t)[0].log().sum(), t)
        torch.testing.assert_close(sde.drift_rate(t), slope, rtol=1e-9, atol=0)


def test_diffusion_against_song_et_al():
    """g^2 as printed: beta; beta (1 - exp(-2 B)); sigma^2 2 log(sigma_max / sigma_min) (Song et al. 2021)."""
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    beta, integral = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t**2
    torch.testing.assert_close(VPSDE().diffusion(t).square(), beta)
    torch.testing.assert_close(SubVPSDE().diffusion(t).square(), beta * (1 - torch.exp(-2 * integral)))
    sigma = 0.01 * 5000**t
    torch.testing.assert_close(VESDE().diffusion(t).square(), sigma**2 * 2 * math.log(5000))
    for kind in (VPSDE, SubVPSDE):
        torch.testing.assert_close(kind().drift_rate(t), -0.5 * beta)
        torch.testing.assert_close(kind().alpha_sigma(t)[0], torch.exp(-0.5 * integral))
    torch.testing.assert_close(VPSDE().alpha_sigma(t)[1], (1 - torch.exp(-integral)).sqrt())
    torch.testing.assert_close(SubVPSDE().alpha_sigma(t)[1], 1 - torch.exp(-integral))
    assert torch.equal(VESDE().drift_rate(t), torch.zeros(50, dtype=torch.float64))


def test_drift_scales_the_image(sde, device):
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).to(device)
    t = torch.tensor([0.2, 0.5, 0.9])
    rate = sde.drift_rate(t).float().reshape(-1, 1, 1, 1).to(device)
    torch.testing.assert_close(sde.drift(x, t.to(device)), rate * x)
    torch.testing.assert_close(sde.drift(x, 0.5), float(sde.drift_rate(0.5)) * x)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_time_inverts_the_log_snr(name):
    sde = SDES[name]()
    t = times(sde, 2001)
    torch.testing.assert_close(sde.time(sde.log_snr(t)), t, rtol=1e-9, atol=1e-9)
    low, high = sde.log_snr_range
    levels = torch.linspace(low, high, 2001, dtype=torch.float64)
    torch.testing.assert_close(sde.log_snr(sde.time(levels)), levels, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["linear DDPM", "vp_sde DDIM"])
def test_time_inverts_the_log_snr_of_a_scheduler(name):
    test_time_inverts_the_log_snr(name)


def test_log_snr_falls_strictly(sde):
    t = times(sde, 4001)
    log_snr, rate = sde.log_snr(t), sde.log_snr_rate(t)
    assert (log_snr.diff() < 0).all()
    assert (rate > 0).all()
    assert torch.isfinite(rate).all()
    low, high = sde.log_snr_range
    assert (low, high) == (log_snr[-1].item(), log_snr[0].item())
    # The rate integrates to the range.
    fine = torch.logspace(math.log10(sde.t_min), 0, 40001, dtype=torch.float64)
    integral = torch.trapezoid(sde.log_snr_rate(fine) * fine, fine.log())
    assert integral.item() == pytest.approx(high - low, rel=1e-4)


def test_log_snr_where_there_is_hardly_any_noise():
    """log(exp(B) - 1) of B = 1e-6 keeps its digits, as the series log B + B / 2 does."""
    t = torch.tensor([1e-7, 1e-6, 1e-5], dtype=torch.float64)
    integral = 0.1 * t + 9.95 * t**2
    torch.testing.assert_close(VPSDE().log_snr(t), -(integral.log() + integral / 2), rtol=1e-12, atol=0)
    torch.testing.assert_close(VPSDE().alpha_sigma(t)[1], (integral - integral**2 / 2).sqrt(), rtol=1e-12, atol=0)


def test_log_snr_where_there_is_hardly_any_image():
    """A large B must not overflow: lambda approaches -B."""
    sde = VPSDE(0.1, 4000.0)
    assert sde.log_snr(1.0).item() == pytest.approx(-2000.05)
    assert sde.time(-2000.05).item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", SDES)
def test_prior_density_against_scipy(name, device):
    sde = SDES[name]()
    x = 3 * torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = norm(scale=sde.prior_std).logpdf(x.double().numpy()).sum((1, 2, 3))
    got = sde.prior_log_density(x.to(device))
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.cpu().numpy(), expected, rtol=1e-12)
    # What stands for the images at t = 1 has their noise's size, where there is little else by then.
    if sde.log_snr_range[0] < -7:
        assert float(sde.alpha_sigma(1.0)[1]) == pytest.approx(sde.prior_std, rel=2e-3)


def test_prior_of_variance_exploding():
    assert VESDE(0.01, 348.0).prior_std == 348.0
    assert VPSDE().prior_std == SubVPSDE().prior_std == 1.0


def test_any_shape_and_kind_of_time(sde, device):
    for t in (0.5, torch.tensor(0.5), torch.tensor([0.5], device=device), torch.full((2, 3), 0.5)):
        shape = t.shape if isinstance(t, torch.Tensor) else ()
        for value in (*sde.alpha_sigma(t), sde.log_snr(t), sde.log_snr_rate(t), sde.drift_rate(t), sde.diffusion(t)):
            assert value.shape == shape
            assert value.dtype == torch.float64
            assert value.device.type == (t.device.type if isinstance(t, torch.Tensor) else "cpu")
        assert sde.time(sde.log_snr(t)).shape == shape


# From a scheduler and back


@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, PNDMScheduler])
@pytest.mark.parametrize(("beta_min", "beta_max"), [(0.1, 20.0), (0.5, 10.0)])
def test_round_trip(kind, beta_min, beta_max):
    sde = VPSDE(beta_min, beta_max)
    back = SchedulerSDE(kind(1000, schedule="vp_sde", beta_min=beta_min, beta_max=beta_max))
    assert back.t_min == 1 / 1000
    t = torch.arange(1, 1001) / 1000
    # The scheduler's table is float32: alpha^2 near 1 is a multiple of 6e-8, rounded by 3e-8, and 1 - alpha^2 is
    # sigma^2. Twice that is allowed.
    allowed = 6e-8 / (sde.alpha_sigma(t)[1] * sde.alpha_sigma(t)[0]).square().clamp(max=0.25) + 1e-6
    assert ((back.log_snr(t) - sde.log_snr(t)).abs() < allowed).all()
    assert allowed[9:].max() < 2e-3, "the tolerance must be sharp"
    # Between the timesteps the interpolation: second derivative 1 / t^2 times the step squared, at t >= 0.01 1e-3.
    between = torch.linspace(0.01, 1, 3333, dtype=torch.float64)
    torch.testing.assert_close(back.log_snr(between), sde.log_snr(between), rtol=0, atol=1e-3)
    torch.testing.assert_close(back.drift_rate(between), sde.drift_rate(between), rtol=0.02, atol=0)
    torch.testing.assert_close(back.diffusion(between), sde.diffusion(between), rtol=0.01, atol=0)


def test_monais_linear_schedule_is_the_vp_sde():
    """beta_i of 1e-4 to 0.02 over 1000 steps is beta(t) / 1000 with beta from 0.1 to 20 (Song et al. 2021, appendix C).

    They differ by the sum for the integral, which after m steps is short by m 1e-5 of m 1e-4 (10 % at the first step,
    0.095 in the log-SNR), and by log(1 - beta) = -beta - beta^2 / 2, whose second terms sum to 0.067 at the end.
    """
    difference = SchedulerSDE(DDPMScheduler(1000)).log_snr(torch.arange(1, 1001) / 1000) - VPSDE().log_snr(
        torch.arange(1, 1001) / 1000
    )
    assert 0.08 < difference[0] < 0.1
    assert difference[-1].item() == pytest.approx(-0.067, abs=2e-3)
    assert difference.abs().max() < 0.1
    assert difference[100:500].abs().max() < 0.01


def test_vp_sde_schedule_against_the_sde():
    tables = DDPMScheduler(50, schedule="vp_sde", beta_min=0.3, beta_max=15.0)
    alpha, _ = VPSDE(0.3, 15.0).alpha_sigma(torch.arange(1, 51) / 50)
    torch.testing.assert_close(tables.alphas_cumprod, alpha.square().float())
    torch.testing.assert_close(tables.alphas.cumprod(0), tables.alphas_cumprod)
    torch.testing.assert_close(1 - tables.alphas, tables.betas, rtol=0, atol=1e-7)
    plain = DDPMScheduler(50, schedule="vp_sde")
    torch.testing.assert_close(plain.alphas_cumprod, VPSDE().alpha_sigma(torch.arange(1, 51) / 50)[0].square().float())


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_passes_through_the_schedulers_levels(steps):
    scheduler = DDPMScheduler(steps, **NARROW)
    sde, process = SchedulerSDE(scheduler), NoiseProcess(scheduler)
    timesteps = torch.arange(steps)
    t = (timesteps + 1).double() / steps
    torch.testing.assert_close(sde.log_snr(t), process.log_snr(timesteps), rtol=1e-12, atol=1e-12)
    for got, expected in zip(sde.alpha_sigma(t), process.alpha_sigma(timesteps), strict=True):
        torch.testing.assert_close(got, expected)
    # Outside the schedule it ends.
    ends = sde.log_snr(torch.tensor([0.0, 2.0]))
    assert ends.tolist() == pytest.approx([float(process.log_snr(timesteps)[i]) for i in (0, -1)], rel=1e-12)


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPSDE(0.0, 20.0), "beta_min, beta_max: expected 0 < beta_min <= beta_max, got 0.0, 20.0"),
        (lambda: VPSDE(3.0, 2.0), "beta_min, beta_max: expected 0 < beta_min <= beta_max, got 3.0, 2.0"),
        (lambda: SubVPSDE(-1.0, 2.0), "beta_min, beta_max: expected 0 < beta_min <= beta_max, got -1.0, 2.0"),
        (lambda: VPSDE(0.1, math.inf), "beta_min, beta_max: expected 0 < beta_min <= beta_max, got 0.1, inf"),
        (lambda: VPSDE(math.nan, 1.0), "beta_min, beta_max: expected 0 < beta_min <= beta_max, got nan, 1.0"),
        (lambda: VESDE(1.0, 1.0), "sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got 1.0, 1.0"),
        (lambda: VESDE(0.0, 1.0), "sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got 0.0, 1.0"),
        (lambda: VESDE(1.0, math.nan), "sigma_min, sigma_max: expected 0 < sigma_min < sigma_max, got 1.0, nan"),
        (lambda: VPSDE(t_min=0.0), r"t_min: expected a time in \(0, 1\), got 0.0"),
        (lambda: SubVPSDE(t_min=1.0), r"t_min: expected a time in \(0, 1\), got 1.0"),
        (lambda: VESDE(t_min=math.nan), r"t_min: expected a time in \(0, 1\), got nan"),
        (lambda: SchedulerSDE(DDPMScheduler(1)), "scheduler: expected at least 2 timesteps, got 1"),
        (lambda: SchedulerSDE(_flat()), "scheduler: expected noise levels that rise from step to step, got some that"),
        (
            lambda: DDPMScheduler(10, schedule="vp_sde", beta_min=2.0, beta_max=1.0),
            "beta_min, beta_max: expected 0 < beta_min <= beta_max, got 2.0, 1.0",
        ),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _flat() -> DDPMScheduler:
    scheduler = DDPMScheduler(10)
    scheduler.alphas_cumprod[5] = scheduler.alphas_cumprod[4]
    return scheduler


def test_other_schedulers():
    with pytest.raises(TypeError, match="scheduler: expected DDPM, DDIM or PNDM, got RFlowScheduler.*RetimedNetwork"):
        SchedulerSDE(RFlowScheduler(10))
    with pytest.raises(TypeError, match="scheduler: expected a monai.networks.schedulers.Scheduler, got VPSDE"):
        SchedulerSDE(VPSDE())
    with pytest.raises(TypeError, match="abstract"):
        SDE()
