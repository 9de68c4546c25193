"""The likelihood of exact scores is the density: Gaussian classes and mixtures of them, for which both are known.

Unless said otherwise the divergence is exact and images are float64, so that what is left is

* the noise of t_min: log p at t_min, not at 0. It widens a pixel of standard deviation s >= 0.475 by sigma^2 / (2 s^2),
  2e-6 for VP and 2.2e-4 for VE with sigma_min = 0.01, times |1 - residual^2|;
* the terminal correction, right to first order in alpha: alpha^2 s^2 = 4e-5 for VP, 4e-4 for VE with sigma_max = 50;
* the solver.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from scipy.integrate import solve_ivp
from scipy.stats import norm

from monai_diffclf.classification import UniformDequantization, image_keys
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks import RetimedNetwork
from monai_diffclf.networks.schedulers import SDE, VESDE, VPSDE, SchedulerSDE, SDEProcess, SubVPSDE
from tests.closed_form import ExactDenoiser, Mixture, make_classes, make_images, posterior

SDES = {"VP": VPSDE(), "sub-VP": SubVPSDE(), "VE": VESDE()}
# Steps at which each solver errs by less than 1e-4 nats a dimension under all of the SDEs; measured: 8e-6 for rk4,
# 3e-5 for heun and 9e-6 for multistep.
STEPS = {"rk4": 32, "heun": 256, "multistep": 64}
SOLVERS = {
    "heun": {"solver": "heun", "num_steps": STEPS["heun"]},
    "rk4": {"solver": "rk4", "num_steps": STEPS["rk4"]},
    "multistep": {"solver": "multistep", "num_steps": STEPS["multistep"]},
    "dopri5": {"solver": "dopri5", "tolerance": 1e-6},
}
PREDICTIONS = ("score", "epsilon")
SHAPE = (1, 4, 4)
ELEMENTS = 16


def score_classifier(sde: SDE, classes: int = 2, **settings) -> ScoreClassifierInferer:
    settings = {"exact_divergence": True, "batch_size": 4096, "solver": "rk4", "num_steps": STEPS["rk4"], **settings}
    return ScoreClassifierInferer(sde, classes, **settings)


def densities(classes: list[Mixture], images: torch.Tensor) -> torch.Tensor:
    """log p(x | k) [B, K]."""
    return torch.stack([law.log_density(images) for law in classes], 1)


@lru_cache
def case(kind: str, each: int = 2) -> tuple[list[Mixture], torch.Tensor]:
    classes = make_classes(kind, SHAPE)
    return classes, make_images(classes, each, seed=2).double()


@lru_cache
def reference(name: str, kind: str = "mixture", terminal: str = "corrected") -> torch.Tensor:
    """log p(x | k) by tiny steps of rk4: its error falls with the fourth power, from 8e-6 at 32 to 4e-8 at 128."""
    classes, images = case(kind)
    inferer = score_classifier(SDES[name], len(classes), num_steps=128, terminal=terminal)
    return inferer.log_likelihood(images, ExactDenoiser(inferer.process, classes))


# Against the closed form


CASES = [(name, solver, prediction, "mixture") for name in SDES for solver in SOLVERS for prediction in PREDICTIONS]
CASES += [(name, "rk4", "score", kind) for name in SDES for kind in ("gaussian", "three")]


@pytest.mark.parametrize(("name", "solver", "prediction", "kind"), CASES)
def test_density_and_posterior(name, solver, prediction, kind, device):
    classes, images = case(kind, 1 if solver == "dopri5" else 2)
    inferer = score_classifier(SDES[name], len(classes), prediction_type=prediction, **SOLVERS[solver])
    result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, classes))
    difference = (result.log_likelihood.cpu() - densities(classes, images)) / ELEMENTS
    assert difference.abs().max() < (1e-3 if name == "VE" else 2e-4), "promised are 5e-3"
    exact = posterior(classes, images)
    # A probability moves by at most a quarter of the log-ratio's error; what classes share of it cancels.
    torch.testing.assert_close(result.probabilities.cpu(), exact, rtol=0, atol=1e-3)
    assert exact.min(1).values.max() > 0.01, "certain images test nothing"


@pytest.mark.parametrize("name", SDES)
def test_float32_images_are_enough(name, device):
    """Two million times less precise than float64, and the sums are float64 in both."""
    classes, images = case("mixture")
    inferer = score_classifier(SDES[name])
    got = inferer.log_likelihood(images.float().to(device), ExactDenoiser(inferer.process, classes))
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.cpu() / ELEMENTS, reference(name) / ELEMENTS, rtol=0, atol=5e-5)


@pytest.mark.parametrize(("shape", "classes"), [((3, 2, 3), 3), ((1, 2, 3, 2), 2), ((2, 1, 1), 20)], ids=str)
def test_channels_dimensions_and_classes(shape, classes, device):
    generator = torch.Generator().manual_seed(0)
    laws = [
        Mixture(
            0.3 * torch.randn(1, *shape, generator=generator), 0.5 + 0.5 * torch.rand(1, *shape, generator=generator)
        )
        for _ in range(classes)
    ]
    images = make_images(laws, 1)[:3]
    inferer = score_classifier(VPSDE(), classes)
    result = inferer.classify(images.to(device), ExactDenoiser(inferer.process, laws))
    torch.testing.assert_close(
        result.log_likelihood.cpu() / math.prod(shape), densities(laws, images) / math.prod(shape), rtol=0, atol=2e-4
    )
    torch.testing.assert_close(result.probabilities.cpu(), posterior(laws, images), rtol=0, atol=1e-3)


@pytest.mark.parametrize("terminal", ["corrected", "prior"])
@pytest.mark.parametrize(
    "sde", [VPSDE(t_min=0.2), SubVPSDE(t_min=0.2), VESDE(t_min=0.5), VESDE(0.5, 20.0)], ids=lambda s: type(s).__name__
)
def test_it_is_the_density_at_t_min(sde, terminal):
    """Started at a large t_min it is the density of noised images there, on their own scale: N(alpha m, alpha^2 s^2 +
    sigma^2). That of sub-VP and VE is far from unit variance, where at the usual t_min the scale is 1 to 1e-4."""
    law = Mixture(torch.zeros(1, *SHAPE), case("gaussian")[0][0].stds)
    alpha, sigma = sde.alpha_sigma(sde.t_min)
    noised = Mixture(alpha * law.means, ((alpha * law.stds).square() + sigma**2).sqrt())
    images = make_images([noised], 3, seed=7).double()
    inferer = score_classifier(sde, terminal=terminal)
    got = inferer.log_likelihood(images, ExactDenoiser(inferer.process, [law, law]))[:, 0]
    # What the end is off by is (alpha_u s)^2 with s < 0.9: 4e-5 for VP, 4e-4 and 2e-3 for VE that ends at 50 and 20.
    left = float(torch.sigmoid(sde.log_snr(1.0)))
    torch.testing.assert_close(got / ELEMENTS, noised.log_density(images) / ELEMENTS, rtol=0, atol=1e-4 + 2 * left)


# The solvers


@pytest.mark.parametrize("solver", STEPS)
@pytest.mark.parametrize("name", SDES)
def test_error_of_fixed_steps(name, solver):
    """Within 1e-4 nats a dimension of an adaptive solver at tolerance 1e-8."""
    classes, images = case("mixture")
    tight, fixed = (
        score_classifier(SDES[name], **settings)
        for settings in ({"solver": "dopri5", "tolerance": 1e-8}, SOLVERS[solver])
    )
    network = ExactDenoiser(tight.process, classes)
    two = images[1:3]
    values = [inferer.log_likelihood(two, network) / ELEMENTS for inferer in (tight, fixed)]
    torch.testing.assert_close(values[1], values[0], rtol=0, atol=5e-5)
    # The adaptive one itself agrees with tiny fixed steps.
    torch.testing.assert_close(values[0], reference(name)[1:3] / ELEMENTS, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("solver", "order", "steps"), [("heun", 2, (64, 128)), ("rk4", 4, (16, 32))])
@pytest.mark.parametrize("name", SDES)
def test_order_of_convergence(name, solver, order, steps):
    """Twice the steps divide the error by 2^order, as long as it is the solver's."""
    classes, images = case("mixture")
    error = []
    for num_steps in steps:
        inferer = score_classifier(SDES[name], solver=solver, num_steps=num_steps)
        got = inferer.log_likelihood(images, ExactDenoiser(inferer.process, classes))
        error.append(float((got - reference(name)).abs().max()) / ELEMENTS)
    assert error[1] > 1e-7, "above rounding"
    assert math.log2(error[0] / error[1]) == pytest.approx(order, abs=0.6)


@pytest.mark.parametrize(("tolerance", "factor"), [(1e-4, 20), (1e-6, 10)])
@pytest.mark.parametrize("name", SDES)
def test_tolerance_of_the_adaptive_solver(name, tolerance, factor):
    """The error is of the size of the tolerance, which is that of one of 30 to 70 steps."""
    classes, images = case("mixture")
    inferer = score_classifier(SDES[name], solver="dopri5", tolerance=tolerance)
    got = inferer.log_likelihood(images, ExactDenoiser(inferer.process, classes))
    assert (got - reference(name)).abs().max() / ELEMENTS < factor * tolerance


# The end


def test_terminal_corrects_for_what_is_left_of_the_class():
    """Where a class mean is 1.2 standard deviations from 0 the SDE's prior is off by 3e-3 nats a dimension."""
    law = Mixture(torch.full((1, *SHAPE), 1.2), torch.ones(1, *SHAPE))
    other = Mixture(torch.full((1, *SHAPE), -1.2), torch.ones(1, *SHAPE))
    images = torch.cat([make_images([law], 6), torch.full((1, *SHAPE), 2.0)]).double()
    exact = densities([law, other], images)
    off = {}
    for terminal in ("prior", "corrected"):
        inferer = score_classifier(VPSDE(), terminal=terminal)
        network = ExactDenoiser(inferer.process, [law, other])
        off[terminal] = ((inferer.log_likelihood(images, network) - exact) / ELEMENTS).abs()
    assert 1e-3 < off["prior"].max() < 3e-2
    assert ((off["prior"] > 1e-3) & (off["prior"] < 6e-3)).any()
    assert off["corrected"].max() < 0.1 * off["prior"].max()
    assert off["corrected"].mean() < 0.1 * off["prior"].mean()


@pytest.mark.parametrize("name", SDES)
def test_terminal_corrects_under_every_sde(name):
    classes, images = case("mixture")
    exact = densities(classes, images)
    prior, corrected = (
        (reference(name, terminal=terminal) - exact).abs() / ELEMENTS for terminal in ("prior", "corrected")
    )
    assert 1e-3 < prior.max() < 1e-2
    assert corrected.max() < 0.1 * prior.max()


def test_prior_terminal_is_the_published_formula():
    """log N(x(1); 0, prior_std^2) of the state at t = 1, for the class that this is right about: N(0, 1) under VP."""
    law = Mixture(torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE))
    images = make_images([law], 3).double()
    inferer = score_classifier(VPSDE(), terminal="prior", num_steps=8)
    got = inferer.log_likelihood(images, ExactDenoiser(inferer.process, [law, law]))
    # u does not move at all: epsilon = sigma u, and the marginal is N(0, 1) at all times.
    torch.testing.assert_close(got[:, 0], law.log_density(images), rtol=1e-9, atol=0)


# Independent of our formulation


@pytest.mark.parametrize("terminal", ["prior", "corrected"])
@pytest.mark.parametrize("name", SDES)
def test_against_songs_equation_in_t(name, terminal):
    """dx / dt = f x - g^2 s / 2 with its divergence, by SciPy's RK45 in t, the score written out here.

    Song et al. 2021, equations 13 and 39: no log-SNR, no rescaled state, no derivative by autograd.
    """
    sde, law = SDES[name], case("gaussian")[0][1]
    image = case("gaussian")[1][0]
    mean, std = law.means[0].numpy().ravel(), law.stds[0].numpy().ravel()

    def score(t: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        alpha, sigma = (float(factor) for factor in sde.alpha_sigma(t))
        variance = (alpha * std) ** 2 + sigma**2
        return (alpha * mean - x) / variance, -1 / variance

    def flow(t: float, state: np.ndarray) -> np.ndarray:
        f, g = float(sde.drift_rate(t)), float(sde.diffusion(t))
        value, slope = score(t, state[:-1])
        return np.append(f * state[:-1] - 0.5 * g**2 * value, np.sum(f - 0.5 * g**2 * slope))

    start = np.append(image.numpy().ravel(), 0.0)
    end = solve_ivp(flow, (sde.t_min, 1.0), start, rtol=1e-9, atol=1e-9).y[:, -1]
    x, divergence = end[:-1], end[-1]
    if terminal == "prior":
        density = norm(0, sde.prior_std).logpdf(x).sum()
    else:
        # N(x; alpha x_hat, sigma^2) with Tweedie's x_hat = (x + sigma^2 s) / alpha.
        sigma = float(sde.alpha_sigma(1.0)[1])
        density = norm(x + sigma**2 * score(1.0, x)[0], sigma).logpdf(x).sum()
    inferer = score_classifier(sde, terminal=terminal, num_steps=128)
    got = inferer.log_likelihood(image[None], ExactDenoiser(inferer.process, case("gaussian")[0]))[0, 1]
    # At t = 1 the state of VE is x / sqrt(1 + sigma^2), and ours takes the noise of the end as sigma_u: the same
    # density up to alpha^2 = 4e-4 of what they correct.
    assert float(got) / ELEMENTS == pytest.approx((density + divergence) / ELEMENTS, abs=1e-4)


def test_the_same_network_under_every_sde():
    """One network, trained with one scheduler, has one likelihood, whichever SDE transports it."""
    classes, images = case("mixture")
    trained = SDEProcess(VPSDE(), "epsilon")
    network = ExactDenoiser(trained, classes)
    values = {}
    for name, sde in {**SDES, "scheduler": SchedulerSDE(DDPMScheduler(1000, schedule="vp_sde"))}.items():
        inferer = score_classifier(sde, num_steps=64)
        retimed = RetimedNetwork(network, trained, inferer.process).eval()
        values[name] = inferer.log_likelihood(images, retimed) / ELEMENTS
    # The closed form's tolerances: noise at t_min of VE 2e-4 and of the scheduler, sigma^2 = 1e-4, the same.
    for name in ("sub-VP", "VE", "scheduler"):
        torch.testing.assert_close(values[name], values["VP"], rtol=0, atol=1e-3)
    torch.testing.assert_close(values["sub-VP"], values["VP"], rtol=0, atol=2e-4)


# Hutchinson's estimate


def correlated() -> torch.nn.Module:
    """Exact score of N(0, S_k) with full covariances: a Jacobian that is not diagonal, the same everywhere in x."""

    class Correlated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            root = 0.25 * torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
            self.covariance = root @ root.mT + 0.3 * torch.eye(6, dtype=torch.float64)
            self.covariance[1] = 0.9 * self.covariance[0] + 0.1 * self.covariance[1]

        def forward(self, x, timesteps, class_labels=None):
            alpha, sigma = VPSDE().alpha_sigma(timesteps.cpu())
            eye = torch.eye(6, dtype=torch.float64)
            wide = alpha.square()[:, None, None] * self.covariance[class_labels.cpu()]
            wide = wide + sigma.square()[:, None, None] * eye
            return -torch.linalg.solve(wide, x.cpu().double().flatten(1)).view(x.shape).to(x)

        def log_density(self, x: torch.Tensor) -> torch.Tensor:
            laws = [torch.distributions.MultivariateNormal(torch.zeros(6).double(), s) for s in self.covariance]
            return torch.stack([law.log_prob(x.double().flatten(1)) for law in laws], 1)

    return Correlated().eval()


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_estimates_are_unbiased(probe, device):
    """The mean of 400 probes approaches the exact divergence within its own standard error, and the density."""
    network = correlated()
    images = torch.randn(3, 1, 2, 3, generator=torch.Generator().manual_seed(5)).double().to(device)
    settings = {"solver": "rk4", "num_steps": 16, "batch_size": 4096}
    exact = ScoreClassifierInferer(VPSDE(), exact_divergence=True, **settings).log_likelihood(images, network)
    torch.testing.assert_close(exact.cpu(), network.log_density(images.cpu()), rtol=0, atol=6 * 5e-4)
    inferer = ScoreClassifierInferer(VPSDE(), num_probes=400, probe=probe, **settings)
    result = inferer.classify(images, network)
    values = inferer._solve(images, image_keys(images), network, {})[0]
    error = values.std(2) / 20
    assert 0.01 < error.max() < 1, "sharp, and estimates that do vary"
    # Six numbers, 4.5 standard errors: one failure in 20,000.
    assert ((result.log_likelihood - exact).abs() < 4.5 * error).all()
    # The stated error of the log-ratio is that of the mean over probes, and paired probes make it small.
    ratio = values[:, 0] - values[:, 1]
    torch.testing.assert_close(result.uncertainty["log_ratio_error"], ratio.std(1) / 20)
    assert (ratio.std(1) < 0.5 * values.std(2).mean(1)).all(), "the classes share the probes"


def test_rademacher_is_exact_in_one_probe_where_the_jacobian_is_diagonal(device):
    """v_i^2 = 1: sum_i v_i J_ii v_i is the trace. Gaussian probes are not."""
    classes, images = case("gaussian")
    exact = score_classifier(VPSDE())
    network = ExactDenoiser(exact.process, classes)
    expected = exact.log_likelihood(images.to(device), network)
    one, gaussian = (
        score_classifier(VPSDE(), exact_divergence=False, probe=probe).log_likelihood(images.to(device), network)
        for probe in ("rademacher", "gaussian")
    )
    torch.testing.assert_close(one, expected, rtol=1e-10, atol=0)
    assert ((gaussian - expected).abs() > 0.01).any()


def test_spread_of_gaussian_probes():
    """v^T v varies, but what it multiplies is the log-volume: |log s| sqrt(2 D) nats for the class N(0, s^2).

    The whole drift has the derivative (sigma^2 - sigma J) / 2, J that of epsilon, whose integral is log s in every
    dimension. v^T (sigma I - J) v vanishes where J is sigma I, at both ends.
    """
    law = Mixture(torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), 0.5))
    inferer = score_classifier(VPSDE(), exact_divergence=False, probe="gaussian", num_probes=200, num_steps=16)
    image = torch.zeros(1, *SHAPE).double()
    values = inferer._solve(image, image_keys(image), ExactDenoiser(inferer.process, [law, law]), {})[0]
    # The standard deviation of 200 numbers is known to 5 %, 4.5 of which are allowed.
    assert float(values[0, 0].std()) == pytest.approx(math.log(2) * math.sqrt(2 * ELEMENTS), rel=0.23)


def test_paired_probes_cancel_between_classes():
    """Differences of classes vary far less over seeds than the likelihoods do."""
    classes, images = case("mixture")
    values = []
    for seed in range(24):
        inferer = score_classifier(VPSDE(), exact_divergence=False, probe="gaussian", num_steps=16, seed=seed)
        values.append(inferer.log_likelihood(images, ExactDenoiser(inferer.process, classes)))
    spread = torch.stack(values)
    # 24 numbers tell a standard deviation to 15 %; the second class, a mixture, has another Jacobian than the first.
    paired, unpaired = (spread[..., 0] - spread[..., 1]).std(0), spread.std(0).square().sum(1).sqrt()
    assert (paired < 0.7 * unpaired).all()
    assert paired.mean() < 0.4 * unpaired.mean()


# Bits


def test_bits_of_a_dequantised_gaussian():
    """P(x) of a fine bin is its density times the width: a Gaussian of deviation s has log2(s sqrt(2 pi e) / w) bits.

    With 256 levels of width w and s = 0.3 = 38 w, the mean of the density over a bin differs from that in its middle by
    w^2 / (24 s^2) = 3e-5 nats.
    """
    dequantization = UniformDequantization()
    law = Mixture(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.3))
    levels = ((make_images([law], 6, seed=4) + 1) * 127.5).round().clamp(0, 255)
    images = (levels / 127.5 - 1).double()
    inferer = ScoreClassifierInferer(
        VPSDE(), dequantization=dequantization, solver="rk4", num_steps=64, batch_size=4096, terminal="prior"
    )
    network = ExactDenoiser(inferer.process, [law, law])
    got = inferer.bits_per_dimension(images, network)
    edges = (levels.double().numpy() + np.array([-0.5, 0.5])[:, None, None, None, None]) / 127.5 - 1
    cumulative = norm(0, 0.3).cdf(edges)
    exact = -np.log2(cumulative[1] - cumulative[0]).mean((1, 2, 3))
    # One draw of u a pixel: d log p / du = x w / s^2 has deviation w / s / sqrt(12) = 0.0075 nats a pixel, 0.0014 bits
    # over 64 pixels; 4.5 of them.
    np.testing.assert_allclose(got.numpy(), exact, rtol=0, atol=4.5 * 0.0014)
    # And near the entropy, of which 384 pixels have a standard error of 0.72 sqrt(2) / 2 / sqrt(384).
    entropy = math.log2(0.3 * math.sqrt(2 * math.pi * math.e) / dequantization.bin_width)
    assert float(got.mean()) == pytest.approx(entropy, abs=4.5 * 0.052)


def test_bits_of_a_uniform_discrete_source():
    """Levels drawn evenly, dequantised, are uniform on a box: log2 L bits a pixel, whatever the image.

    The exact score of the box's marginals: with Phi and phi of the edges' distances, epsilon = (phi(b) - phi(a)) /
    (Phi(a) - Phi(b)), a smoothed box.
    """

    class Box(torch.nn.Module):
        low, high = -1.0 - 1 / 7, 1.0 + 1 / 7  # eight levels of width 2 / 7

        def forward(self, x, timesteps, class_labels=None):
            alpha, sigma = (factor.to(x).reshape(-1, 1, 1, 1) for factor in VPSDE().alpha_sigma(timesteps))
            a, b = (x - alpha * self.low) / sigma, (x - alpha * self.high) / sigma

            def phi(z: torch.Tensor) -> torch.Tensor:
                return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)

            # Mirrored where both are positive: the difference of two numbers near 1 has no digits.
            right = a + b > 0
            upper, lower = torch.where(right, -b, a), torch.where(right, -a, b)
            mass = torch.special.ndtr(upper) - torch.special.ndtr(lower)
            return (phi(b) - phi(a)) / mass.clamp(min=1e-300)

    generator = torch.Generator().manual_seed(0)
    images = (torch.randint(0, 8, (4, 1, 6, 6), generator=generator) * (2 / 7) - 1).double()
    inferer = ScoreClassifierInferer(
        VPSDE(),
        prediction_type="epsilon",
        dequantization=UniformDequantization(8),
        solver="rk4",
        num_steps=256,
        batch_size=4096,
        terminal="prior",
    )
    got = inferer.bits_per_dimension(images, Box().eval())
    # Next to an edge, within sigma(t_min) = 0.001 of a box of 2.3, the density is less than 1 / 2.3: 2 of 2300, by a
    # nat; the prior takes the box's variance 0.44 for 1, which alpha^2 = 4e-5 makes nothing; steps of rk4 the rest.
    torch.testing.assert_close(got, torch.full((4,), 3.0, dtype=torch.float64), rtol=0, atol=0.01)
