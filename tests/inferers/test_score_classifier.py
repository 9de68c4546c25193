"""The likelihood classifier: what its results depend on, what they must not depend on, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import (
    Classification,
    CurtailedVote,
    StagedElimination,
    UniformDequantization,
    bits_per_dimension,
    empirical_prior,
    image_keys,
)
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from monai_diffclf.inferers.score_classifier import LARGEST_EXACT
from monai_diffclf.networks import RetimedNetwork
from monai_diffclf.networks.nets import ScoreUNet
from monai_diffclf.networks.schedulers import VESDE, VPSDE, SDEProcess, SubVPSDE
from tests.closed_form import ExactDenoiser, make_classes, make_images
from tests.tiny_unet import tiny_unet

ROOT = Path(__file__).resolve().parents[2]
SOLVERS = {
    "heun": {"solver": "heun", "num_steps": 4},
    "rk4": {"solver": "rk4", "num_steps": 2},
    "multistep": {"solver": "multistep", "num_steps": 6},
    "dopri5": {"solver": "dopri5", "tolerance": 1e-3},
}


def make(classes: int = 2, **settings) -> ScoreClassifierInferer:
    """A quick one: what is tested here holds for any number of steps."""
    sde = settings.pop("sde", None) or VPSDE()
    return ScoreClassifierInferer(sde, classes, **{"num_steps": 4, "num_probes": 2, **settings})


def exact(inferer: ScoreClassifierInferer, kind: str = "mixture") -> ExactDenoiser:
    return ExactDenoiser(inferer.process, make_classes(kind))


def images_of(kind: str = "mixture", each: int = 3) -> torch.Tensor:
    return make_images(make_classes(kind), each)


def score_unet(device: str = "cpu", **settings) -> ScoreUNet:
    """A small score network with random weights where it starts at zero."""
    torch.manual_seed(0)
    network = ScoreUNet(VPSDE(), channels=(8, 8), embedding_channels=16, norm_num_groups=4, **settings)
    torch.nn.init.normal_(network.out.weight, std=0.2)
    return network.to(device).eval()


def noise_images(*shape: int, device: str = "cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(device)


class Unlabelled(torch.nn.Module):
    """The published fault: the class does not reach the network, here because a wrapper drops it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x, timesteps, class_labels=None):
        return self.network(x, timesteps=timesteps, class_labels=torch.zeros_like(class_labels))


# The class


@pytest.mark.parametrize("terminal", ["corrected", "prior"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_class_has_its_own_likelihood(solver, terminal, device):
    """And the class is in the drift and in its divergence: a network that is not told it gives all the same."""
    network, images = score_unet(device), noise_images(3, 1, 6, 5, device=device)
    inferer = make(**SOLVERS[solver], terminal=terminal)
    unlabelled = Unlabelled(network).eval()
    told, untold = (inferer.log_likelihood(images, net) for net in (network, unlabelled))
    assert ((told[:, 0] - told[:, 1]).abs() > 1e-3).all()
    torch.testing.assert_close(untold[:, 0], untold[:, 1], rtol=1e-6, atol=0)
    if solver != "dopri5":  # whose steps the other class sets too
        torch.testing.assert_close(untold[:, 0], told[:, 0], rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="expected predictions that depend on the class, got the same for all 2"):
        inferer.classify(images, unlabelled)


def test_the_class_is_in_the_divergence():
    """Classes N(0, s_k^2) at x = 0 have the same drift, 0, and differ in its divergence alone."""
    images = torch.zeros(1, 1, 2, 2)

    class Width(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            alpha, sigma = (f.to(x).reshape(-1, 1, 1, 1) for f in VPSDE().alpha_sigma(timesteps))
            std = torch.where(class_labels == 0, 0.5, 2.0).reshape(-1, 1, 1, 1)
            return -x / (alpha.square() * std.square() + sigma.square())

    got = make(num_steps=64).log_likelihood(images, Width().eval())[0]
    # 4 log(2 / 0.5) nats; heun at 64 steps errs by 3e-4 a dimension, the terminal correction by alpha^2 (4 - 1 / 4).
    assert float(got[0] - got[1]) == pytest.approx(4 * torch.log(torch.tensor(4.0)).item(), abs=4e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_permuting_classes_permutes_results(solver):
    inferer, order, images = make(3, **SOLVERS[solver]), [2, 0, 1], images_of("three", 2)
    classes = make_classes("three")
    plain = inferer.classify(images, ExactDenoiser(inferer.process, classes))
    permuted = inferer.classify(images, ExactDenoiser(inferer.process, [classes[k] for k in order]))
    torch.testing.assert_close(permuted.log_likelihood, plain.log_likelihood[:, order], rtol=1e-9, atol=0)
    torch.testing.assert_close(permuted.probabilities, plain.probabilities[:, order], rtol=1e-6, atol=1e-9)
    assert torch.equal(torch.tensor(order)[permuted.predicted], plain.predicted)


def test_callable_conditioning():
    plain, swapped = make(), make(conditioning=lambda labels: {"class_labels": 1 - labels})
    network, images = exact(plain), images_of()
    a, b = (inferer.log_likelihood(images, network) for inferer in (plain, swapped))
    torch.testing.assert_close(a, b.flip(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("prediction", ["score", "epsilon", "sample", "v_prediction"])
def test_predictions_agree(prediction):
    """The same exact denoiser, in what it predicts, has the same likelihood."""
    images = images_of().double()
    expected = make().log_likelihood(images, exact(make()))
    inferer = make(prediction_type=prediction)
    torch.testing.assert_close(inferer.log_likelihood(images, exact(inferer)), expected, rtol=1e-7, atol=0)


# What the results do not depend on


@pytest.mark.parametrize("solver", SOLVERS)
def test_order_company_and_batch_size(solver, device):
    images = noise_images(5, 1, 6, 5, device=device)
    reference = make(3, **SOLVERS[solver], probe="gaussian")
    network = score_unet(device, num_classes=3)
    expected = reference.log_likelihood(images, network)
    order = [3, 0, 4, 1, 2]
    # float32 kernels sum in another order in another batch; steps of dopri5 are chosen by what they give.
    close = {"rtol": 1e-6 if solver != "dopri5" and device == "cpu" else 1e-4, "atol": 0}
    torch.testing.assert_close(reference.log_likelihood(images[order], network), expected[order], **close)
    for i in range(5):
        torch.testing.assert_close(reference.log_likelihood(images[i : i + 1], network), expected[i : i + 1], **close)
    company = torch.cat([images[:1], 50 * images[1:]])
    torch.testing.assert_close(reference.log_likelihood(company, network)[:1], expected[:1], **close)
    for batch_size in (1, 7, 1000) if solver != "dopri5" else (7,):
        inferer = make(3, **SOLVERS[solver], probe="gaussian", batch_size=batch_size)
        torch.testing.assert_close(inferer.log_likelihood(images, network), expected, **close)


def test_probes_are_bit_identical_in_any_company(monkeypatch):
    """Those of an image depend on its pixels, the seed and their index; classes share them."""
    from monai_diffclf.inferers import flow_likelihood

    seen: list[torch.Tensor] = []
    original = flow_likelihood.FlowLikelihood._probes

    def spy(self, image):
        seen.append(original(self, image))
        return seen[-1]

    monkeypatch.setattr(flow_likelihood.FlowLikelihood, "_probes", spy)
    images = images_of()
    for probe in ("rademacher", "gaussian"):
        seen.clear()
        for part in (images, images[[4, 2]], images[2:3]):
            make(num_steps=1, probe=probe).log_likelihood(part, exact(make()))
        make(num_steps=1, probe=probe, num_probes=5).log_likelihood(images[2:3], exact(make()))
        make(num_steps=1, probe=probe, seed=1).log_likelihood(images[2:3], exact(make()))
        everything, two, one, more, other = seen
        assert everything.shape == (6, 2, 1, 4, 4)
        assert torch.equal(two, everything[[4, 2]])
        assert torch.equal(one, everything[2:3])
        assert torch.equal(more[:, :2], one)
        assert not torch.equal(other, one)
        assert not torch.equal(everything[0], everything[1])
        assert not torch.equal(everything[:, 0], everything[:, 1])
        if probe == "rademacher":
            assert set(everything.unique().tolist()) == {-1.0, 1.0}


def test_seed():
    images, settings = images_of(), {"probe": "gaussian", "dequantization": UniformDequantization()}
    a, b, c = (make(seed=seed, **settings) for seed in (0, 0, 1))
    values = [inferer.log_likelihood(images, exact(inferer)) for inferer in (a, b, c)]
    assert torch.equal(values[0], values[1])
    assert (values[0] != values[2]).all()


def test_global_random_state_neither_matters_nor_changes():
    inferer = make(probe="gaussian", dequantization=UniformDequantization())
    images, network = images_of(), exact(inferer)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = inferer.log_likelihood(images, network)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(inferer.log_likelihood(images, network), values)


def test_images_of_any_kind():
    inferer = make()
    images, network = images_of(), exact(inferer)
    values = inferer.log_likelihood(images, network)
    for same in (MetaTensor(images), images.clone().requires_grad_()):
        other = inferer.log_likelihood(same, network)
        assert torch.equal(other, values)
        assert type(other) is torch.Tensor
        assert not other.requires_grad
    torch.testing.assert_close(inferer.log_likelihood(images.double(), network), values, rtol=1e-4, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_inside_no_grad_and_inference_mode(solver, device):
    network, images = score_unet(device), noise_images(2, 1, 6, 5, device=device)
    inferer = make(**SOLVERS[solver])
    expected = inferer.log_likelihood(images, network)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = images.clone()
            torch.testing.assert_close(inferer.log_likelihood(inside, network), expected, rtol=1e-5, atol=0)
            assert inferer(inside, network).shape == (2, 2)
    assert all(p.grad is None for p in network.parameters()), "no gradients are left behind"


def test_cross_attention_inside_inference_mode():
    network = tiny_unet("crossattn", classes=2, seed=1)  # weights by which classes differ by more than probes do
    inferer = make(conditioning="crossattn", prediction_type="epsilon")
    images = noise_images(2, 1, 8, 8)
    expected = inferer.log_likelihood(images, network)
    with torch.inference_mode():
        torch.testing.assert_close(inferer.log_likelihood(images.clone(), network), expected, rtol=1e-5, atol=0)
    assert ((expected[:, 0] - expected[:, 1]).abs() > 1e-3).all()


def test_float64_network(device):
    network, images = score_unet(device), noise_images(2, 1, 6, 5, device=device)
    single = make().log_likelihood(images, network)
    double = make().log_likelihood(images.double(), network.double())
    torch.testing.assert_close(single, double, rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:std():UserWarning")
@pytest.mark.parametrize("solver", ["heun", "rk4", "multistep", "dopri5"])
def test_no_images(solver):
    inferer = make(**SOLVERS[solver])
    result = inferer.classify(torch.zeros(0, 1, 4, 4), exact(inferer))
    assert len(result) == 0
    assert result.probabilities.shape == result.log_likelihood.shape == (0, 2)


def test_no_images_to_dequantise():
    inferer = make(dequantization=UniformDequantization())
    assert inferer.log_likelihood(torch.zeros(0, 1, 4, 4), exact(inferer)).shape == (0, 2)


def test_two_processes_give_the_values_of_one(tmp_path):
    subprocess.run(
        [sys.executable, "tests/inferers/likelihood_in_processes.py", str(tmp_path)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    torch.testing.assert_close(first, one[0::2], rtol=1e-12, atol=0)
    torch.testing.assert_close(second, one[1::2], rtol=1e-12, atol=0)


# Bayes' rule


def test_prior_moves_posteriors_by_bayes_rule():
    images, prior = images_of("three"), [0.7, 0.2, 0.1]
    plain, weighted = (make(3, prior=p) for p in (None, prior))
    network = exact(plain, "three")
    a, b = (inferer.classify(images, network) for inferer in (plain, weighted))
    assert torch.equal(a.log_likelihood, b.log_likelihood)
    expected = a.log_likelihood.softmax(1) * torch.tensor(prior, dtype=torch.float64)
    torch.testing.assert_close(
        b.probabilities.double(), expected / expected.sum(1, keepdim=True), rtol=1e-6, atol=1e-12
    )
    torch.testing.assert_close(a.probabilities.double(), a.log_likelihood.softmax(1), rtol=1e-9, atol=1e-12)
    assert torch.equal(b.predicted, expected.argmax(1))
    assert not torch.equal(a.predicted, b.predicted), "a prior that moves nothing tests nothing"
    again = make(3, prior=torch.tensor(empirical_prior([0] * 6 + [1], 3)))
    assert again.prior.tolist() == pytest.approx([0.7, 0.2, 0.1])


def test_temperature_divides_the_log_likelihood_but_not_the_prior():
    images, prior = images_of(), torch.tensor([0.8, 0.2], dtype=torch.float64)
    inferer = make(prior=prior, temperature=3.0)
    result = inferer.classify(images, exact(inferer))
    expected = (result.log_likelihood / 3 + prior.log()).softmax(1)
    torch.testing.assert_close(result.probabilities.double(), expected, rtol=1e-9, atol=1e-12)
    cold = make(prior=prior)
    assert torch.equal(cold.log_likelihood(images, exact(cold)), result.log_likelihood)


def test_classification(device):
    inferer = make(3, num_probes=5, probe="gaussian")
    images = images_of("three").to(device)
    result = inferer.classify(images, exact(inferer, "three"))
    assert isinstance(result, Classification)
    assert isinstance(inferer, Inferer)
    assert torch.equal(inferer(images, exact(inferer, "three")), result.probabilities)
    torch.testing.assert_close(inferer.log_likelihood(images, exact(inferer, "three")), result.log_likelihood)
    assert {t.device.type for t in (result.probabilities, result.log_likelihood, result.network_evaluations)} == {
        device
    }
    assert (result.guarantee, result.num_elements, result.error_maps) == ("likelihood", 16, None)
    assert result.decided.all()
    with pytest.warns(DeprecationWarning, match="mean_error is"):
        torch.testing.assert_close(result.mean_error, -2 * result.log_likelihood / 16)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones_like(result.probabilities[:, 0]))
    assert {"probability_margin", "probability_entropy", "log_ratio_error", "probe_variance"} <= set(result.uncertainty)
    assert "log_ratio_error" not in make(num_probes=1).classify(images, exact(inferer)).uncertainty


# Costs


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("terminal", ["corrected", "prior"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_those_of_the_network(solver, terminal, batch_size):
    inferer = make(3, **SOLVERS[solver], terminal=terminal, batch_size=batch_size)
    network = exact(inferer, "three")
    result = inferer.classify(images_of("three", 1), network)
    assert max(network.calls) <= batch_size
    assert int(result.network_evaluations.sum()) == sum(network.calls)
    if solver != "dopri5":
        stages = {"heun": 2 * 4, "rk4": 4 * 2, "multistep": 6 + 1}[solver]
        # Classes times probes at every stage, and once a class at the end.
        expected = 3 * 2 * stages + (3 if terminal == "corrected" else 0)
        assert result.network_evaluations.tolist() == [expected] * 3


def test_exact_divergence_is_bounded_too():
    inferer = make(exact_divergence=True, batch_size=10, num_steps=1)
    network = exact(inferer)
    result = inferer.classify(images_of(each=1), network)
    assert max(network.calls) == 10
    assert result.network_evaluations.tolist() == [2 * 16 * 2 + 2] * 2


def test_adaptive_steps_are_each_images_own():
    inferer = make(solver="dopri5", tolerance=1e-5)  # at 1e-4 all four take as many steps with most probes
    images = torch.cat([images_of(each=1), 5 * images_of(each=1)])
    together = inferer.classify(images, exact(inferer)).network_evaluations.tolist()
    alone = [int(inferer.classify(images[i : i + 1], exact(inferer)).network_evaluations) for i in range(4)]
    assert together == alone
    assert len(set(alone)) > 1


# As a MONAI inferer


def test_in_a_supervised_evaluator(device):
    images = images_of()
    inferer = make()
    network = exact(inferer)
    outputs = []
    evaluator = SupervisedEvaluator(
        torch.device(device),
        DataLoader(Dataset([{"image": image, "label": i % 2} for i, image in enumerate(images)]), batch_size=4),
        network,
        inferer=inferer,
        decollate=False,
    )
    from ignite.engine import Events

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output["pred"]))
    evaluator.run()
    torch.testing.assert_close(torch.cat(outputs).cpu(), inferer(images, network), rtol=1e-4, atol=1e-6)


def test_further_arguments_reach_the_network():
    class Scaled(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None, scale=1.0):
            return -x * scale + class_labels.reshape(-1, 1, 1, 1)

    inferer, images, network = make(), images_of(), Scaled().eval()
    without = inferer.log_likelihood(images, network)
    assert torch.equal(inferer.log_likelihood(images, network, scale=1.0), without)
    for method in ("log_likelihood", "__call__", "log_likelihood_maps"):
        one, two = (getattr(inferer, method)(images, network, scale=scale) for scale in (1.0, 0.5))
        assert not torch.equal(one, two)
    bounds = [inferer.variational_bound(images, network, scale=scale).value for scale in (1.0, 0.5)]
    assert not torch.equal(*bounds)


# The denoising classifier and the bound

RULES = [("mean", None), ("mean", StagedElimination((20, 60), (2, 1))), ("vote", None), ("vote", CurtailedVote())]


@pytest.mark.parametrize("time_sampling", ["log_snr", "uniform"])
@pytest.mark.parametrize(("rule", "stopping"), RULES, ids=lambda s: s if isinstance(s, str) else type(s).__name__)
def test_denoising_classifier_is_the_one_made_by_hand(rule, stopping, time_sampling, device):
    inferer = make(3, seed=5, prediction_type="epsilon")
    images = images_of("three").to(device)
    ours = inferer.denoising_classifier(
        num_draws=60, rule=rule, stopping=stopping, time_sampling=time_sampling, temperature=2.0
    )
    by_hand = DiffusionClassifierInferer(
        SDEProcess(VPSDE(), "epsilon", time_sampling=time_sampling),
        3,
        num_draws=60,
        rule=rule,
        stopping=stopping,
        seed=5,
        weighting="elbo" if (rule, time_sampling) == ("mean", "log_snr") else "uniform",
        temperature=2.0,
    )
    a, b = (classifier.classify(images, exact(inferer, "three")) for classifier in (ours, by_hand))
    assert torch.equal(a.probabilities, b.probabilities)
    assert torch.equal(a.network_evaluations, b.network_evaluations)
    if stopping is not None:
        assert a.network_evaluations.sum() < 60 * 3 * 9
    else:
        assert a.network_evaluations.tolist() == [180] * 9


@pytest.mark.parametrize("sde", [VPSDE(), SubVPSDE(), VESDE()], ids=lambda s: type(s).__name__)
def test_bound_of_the_exact_score_is_the_log_likelihood(sde, device):
    classes, images = make_classes("mixture"), images_of(each=6)
    inferer = make(sde=sde, batch_size=4096)
    bound = inferer.variational_bound(images.to(device), exact(inferer), num_draws=1600)
    exact_value = torch.stack([law.log_density(images) for law in classes], 1)
    assert bound.value.dtype == torch.float64
    gap = bound.value.cpu() - exact_value
    # A draw's error is 1 +- sqrt(2 / 16) where there is much noise: half of 16 times the range of 17 to 28, over 40.
    assert bound.standard_error.max() < 2, "sharp"
    assert bound.difference_error.max() < 0.6, "sharper"
    # 24 numbers, 4.5 standard errors; the ends, 16 dimensions of 4e-4 nats for VE (see test_score_gaussian).
    assert (gap.abs() < 4.5 * bound.standard_error.cpu() + 16 * 1e-3).all()
    # Images have noise of their own: their mean is three times as sharp.
    assert float(gap.mean().abs()) < 4.5 * float(bound.standard_error.mean()) / 12**0.5 + 16 * 1e-3
    difference = gap[:, 0] - gap[:, 1]
    error = bound.difference_error[:, 0, 1].cpu()
    assert (difference.abs() < 4.5 * error + 16 * 1e-3).all()
    assert (error < bound.standard_error.cpu().mean(1)).all(), "draws are paired"


@pytest.mark.parametrize(
    "sde", [VPSDE(t_min=0.1), SubVPSDE(t_min=0.1), VESDE(0.1, 3.0)], ids=lambda s: type(s).__name__
)
def test_constant_of_the_bound_against_torch(sde):
    """With the predictions taken out: the reconstruction at t_min by quadrature, the divergence at t = 1 by torch."""

    class Perfect(torch.nn.Module):
        """Knows the noise: x is 0.7, so epsilon = (z - 0.7 alpha) / sigma, and the errors are 0."""

        def forward(self, x, timesteps, class_labels=None):
            alpha, sigma = (f.reshape(-1, 1, 1, 1) for f in sde.alpha_sigma(timesteps))
            return ((x.double() - 0.7 * alpha) / sigma).float()

    images = torch.full((1, 1, 2, 3), 0.7)
    inferer = make(sde=sde, prediction_type="epsilon")
    bound = inferer.variational_bound(images, Perfect().eval(), num_draws=5)
    alpha, sigma = sde.alpha_sigma(sde.t_min)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(20))
    decoder = torch.distributions.Normal(0.7 + sigma / alpha * nodes, sigma / alpha)
    reconstruction = (weights * decoder.log_prob(torch.tensor(0.7).double())).sum() / weights.sum()
    alpha, sigma = sde.alpha_sigma(1.0)
    prior = torch.distributions.Normal(torch.zeros(()).double(), sde.prior_std)
    divergence = torch.distributions.kl_divergence(torch.distributions.Normal(0.7 * alpha, sigma), prior)
    # Errors of float32 predictions: 1e-12.
    torch.testing.assert_close(bound.value, (6 * (reconstruction - divergence)).expand(1, 2), rtol=1e-6, atol=0)
    torch.testing.assert_close(bound.standard_error, torch.zeros(1, 2).double(), rtol=0, atol=1e-6)


def test_stated_error_of_the_bound_is_honest():
    """Its root mean square over seeds against the actual spread; it may err on the large side only moderately."""
    classes, images = make_classes("mixture"), images_of(each=3)
    values, errors, gaps, gap_errors = [], [], [], []
    for seed in range(40):
        inferer = make(seed=seed, batch_size=4096)
        bound = inferer.variational_bound(images, ExactDenoiser(inferer.process, classes), num_draws=32)
        values.append(bound.value)
        errors.append(bound.standard_error)
        gaps.append(bound.value[:, 0] - bound.value[:, 1])
        gap_errors.append(bound.difference_error[:, 0, 1])
    # 40 seeds of 12 (6) numbers know a standard deviation to 5 to 10 %.
    for value, error in ((values, errors), (gaps, gap_errors)):
        spread = torch.stack(value).var(0).mean().sqrt()
        stated = torch.stack(error).square().mean().sqrt()
        assert 0.3 < float(spread / stated) < 1.2


@pytest.mark.parametrize("dequantization", [None, UniformDequantization()], ids=["as given", "dequantised"])
def test_maps_add_up_to_the_bounds_difference(dequantization, device):
    """Same draws, pixel by pixel, over channels too."""
    inferer = make(dequantization=dequantization)
    network = RetimedNetwork(
        tiny_unet(channels=3).to(device), DDPMScheduler(1000, prediction_type="v_prediction"), inferer.process
    ).eval()
    images = noise_images(2, 3, 8, 8, device=device)
    maps = inferer.log_likelihood_maps(images, network, num_draws=7)
    assert maps.shape == (2, 2, 8, 8)
    bound = inferer.variational_bound(images, network, num_draws=7)
    difference = bound.value[:, 0] - bound.value[:, 1]
    assert (difference.abs() > 0.05).all()
    # Maps are float32: 64 numbers, each of the size of the mean, rounded by 6e-8.
    slack = 64 * 6e-8 * float(maps.abs().max()) * 4
    torch.testing.assert_close((maps[:, 0] - maps[:, 1]).double().flatten(1).sum(1), difference, rtol=1e-5, atol=slack)


@pytest.mark.parametrize("dequantization", [None, UniformDequantization()], ids=["as given", "dequantised"])
def test_error_maps_of_a_classification(dequantization, device):
    """Those of the denoising classifier with `map_draws` draws; they cost their draws and change nothing else."""
    inferer = make(map_draws=5, dequantization=dequantization)
    images, network = images_of().to(device), exact(inferer)
    plain = inferer.classify(images, network)
    network.calls.clear()
    mapped = inferer.classify(images, network, error_maps=True)
    assert int(mapped.network_evaluations.sum()) == sum(network.calls)
    assert torch.equal(mapped.network_evaluations, plain.network_evaluations + 5 * 2)
    assert torch.equal(mapped.log_likelihood, plain.log_likelihood)
    assert torch.equal(mapped.probabilities, plain.probabilities)
    maps = inferer.denoising_classifier(num_draws=5).error_maps(inferer.encode(images, network), network)
    torch.testing.assert_close(mapped.error_maps, maps)


def test_decisions_from_stored_likelihoods():
    inferer = make(prior=[0.8, 0.2], temperature=2.0, probe="gaussian")
    images = images_of()
    values, _ = inferer._solve(images, image_keys(images), exact(inferer), {})
    assert values.shape == (6, 2, inferer.num_estimates)
    assert make(exact_divergence=True, num_probes=7).num_estimates == 1
    result, stored = inferer.classify(images, exact(inferer)), inferer.decide(values, 16)
    assert torch.equal(stored.probabilities, result.probabilities)
    assert torch.equal(stored.log_likelihood, result.log_likelihood)


def test_bound_of_dequantised_images():
    """The volume of the levels is in the bound as it is in the likelihood, and the noise is the same."""
    images, dequantization = images_of(), UniformDequantization(16, -4.0, 4.0)
    with_noise, plain = make(dequantization=dequantization), make()
    noisy = dequantization(images, seed=0).float()
    for method in ("variational_bound", "log_likelihood"):
        a, b = (getattr(inferer, method)(x, exact(inferer)) for inferer, x in ((with_noise, images), (plain, noisy)))
        if method == "variational_bound":
            torch.testing.assert_close(a.value, b.value + dequantization.log_volume(16), rtol=1e-9, atol=0)
        else:
            # Probes are keyed by the dequantised image in both.
            torch.testing.assert_close(a, b + dequantization.log_volume(16), rtol=1e-9, atol=0)


def test_bits_per_dimension_are_those_of_the_mixture_of_classes():
    images, prior = images_of(), [0.3, 0.7]
    inferer = make(dequantization=UniformDequantization(), prior=prior)
    joint = inferer.log_likelihood(images, exact(inferer)) + torch.tensor(prior, dtype=torch.float64).log()
    expected = bits_per_dimension(joint.logsumexp(1), 16)
    torch.testing.assert_close(inferer.bits_per_dimension(images, exact(inferer)), expected)


def test_images_are_told_apart_by_their_pixels():
    """Equal images have equal probes and noise, wherever they are."""
    images = images_of()[[0, 1, 0]]
    assert image_keys(images)[0] == image_keys(images)[2]
    inferer = make(probe="gaussian", dequantization=UniformDequantization())
    values = inferer.log_likelihood(images, exact(inferer))
    torch.testing.assert_close(values[0], values[2], rtol=1e-9, atol=0)
    assert (values[0] != values[1]).all()


# What is refused

SETTINGS = {
    "num_classes": ({"classes": 1}, "num_classes: expected an integer of at least 2, got 1"),
    "num_probes": ({"num_probes": 0}, "num_probes: expected a positive integer, got 0"),
    "num_steps": ({"num_steps": 0}, "num_steps: expected a positive integer, got 0"),
    "steps of a float": ({"num_steps": 2.5}, "num_steps: expected a positive integer, got 2.5"),
    "steps of multistep": (
        {"solver": "multistep", "num_steps": 3},
        "num_steps: expected at least 4 for the multistep solver, got 3",
    ),
    "map_draws": ({"map_draws": 0}, "map_draws: expected a positive integer, got 0"),
    "batch_size": ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
    "solver": ({"solver": "euler"}, r"solver: expected one of \['heun', 'rk4', 'multistep', 'dopri5'\], got 'euler'"),
    "probe": ({"probe": "sphere"}, r"probe: expected one of \['rademacher', 'gaussian'\], got 'sphere'"),
    "terminal": ({"terminal": "none"}, r"terminal: expected one of \['corrected', 'prior'\], got 'none'"),
    "tolerance": ({"tolerance": 0.0}, "tolerance: expected a positive number, got 0.0"),
    "tolerance nan": ({"tolerance": float("nan")}, "tolerance: expected a positive number, got nan"),
    "temperature": ({"temperature": -1}, "temperature: expected a positive number, got -1"),
    "prior sum": ({"prior": [0.5, 0.75]}, r"prior: expected 2 positive class shares that sum to 1, got \[0.5, 0.75\]"),
    "prior count": ({"prior": [0.5, 0.3, 0.2]}, "prior: expected 2 positive class shares that sum to 1"),
    "prior zero": ({"prior": [1.0, 0.0]}, r"prior: expected 2 positive class shares that sum to 1, got \[1.0, 0.0\]"),
    "prior text": ({"prior": "empirical"}, "prior: expected None for equal shares or K numbers, got 'empirical'"),
    "prediction": ({"prediction_type": "noise"}, "prediction_type: expected one of .*, got 'noise'"),
    "v of VE": ({"sde": VESDE(), "prediction_type": "v_prediction"}, "v_prediction is defined for variance preserving"),
    "conditioning": ({"conditioning": "film"}, "conditioning: expected 'class_labels', 'crossattn' or a callable"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    settings, message = SETTINGS[name]
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_seed_is_checked():
    with pytest.raises(ValueError, match="seed: expected an integer of 64 bits, got 1.5"):
        make(seed=1.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sde": DDPMScheduler(10)}, r"sde: expected an SDE such as VPSDE\(\), got DDPMScheduler"),
        ({"dequantization": 256}, "dequantization: expected None or a UniformDequantization, got int"),
        ({"conditioning": None}, "conditioning: expected a name or a callable, got NoneType"),
    ],
)
def test_settings_of_another_type(settings, message):
    with pytest.raises(TypeError, match=message):
        make(**settings)


METHODS = ["__call__", "classify", "log_likelihood", "variational_bound", "log_likelihood_maps"]


@pytest.mark.parametrize("method", METHODS)
def test_training_mode(method):
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode.*call network.eval"):
        getattr(make(), method)(noise_images(2, 1, 4, 4), score_unet().train())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_images_that_are_not_finite(method, value):
    images = noise_images(3, 1, 4, 4)
    images[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"images: expected finite values, got NaN or infinity in image\(s\) \[1\]"):
        getattr(make(), method)(images, score_unet())


@pytest.mark.parametrize("method", METHODS)
def test_images_of_other_kinds_and_shapes(method):
    run, network = getattr(make(), method), score_unet()
    with pytest.raises(
        TypeError, match="images: expected floating point values scaled as in training, got torch.uint8"
    ):
        run(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), network)
    with pytest.raises(
        ValueError, match=r"images: expected shape \[B, C, H, W\] or \[B, C, H, W, D\], got \[1, 4, 4\]"
    ):
        run(torch.zeros(1, 4, 4), network)
    with pytest.raises(TypeError, match=r"images: expected a Tensor \[B, C, \*spatial\], got ndarray"):
        run(torch.zeros(2, 1, 4, 4).numpy(), network)


def test_positional_arguments():
    with pytest.raises(ValueError, match="args: expected keyword arguments for the network only, got 1 positional"):
        make()(noise_images(1, 1, 4, 4), score_unet(), 3)


def test_exact_divergence_of_large_images():
    images = torch.zeros(1, 1, 65, 64)
    assert images.numel() > LARGEST_EXACT
    with pytest.raises(
        ValueError, match="exact_divergence: expected images of at most 4096 elements, got 4160; use num"
    ):
        make(exact_divergence=True)(images, score_unet())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("prediction", ["score", "epsilon", "sample", "v_prediction"])
def test_a_network_without_a_graph(prediction, mode):
    """Its divergence would be wrong, not missing: epsilon of v or of the sample depends on x by itself as well."""
    inferer = make(prediction_type=prediction)
    inner = exact(inferer)

    class Frozen(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            with mode():
                return inner(x, timesteps, class_labels=class_labels)

    with pytest.raises(ValueError, match="network: expected a prediction that can be differentiated by x.*FastNetwork"):
        inferer(images_of(), Frozen().eval())


def test_a_retimed_network_without_a_graph():
    inferer, scheduler = make(), DDPMScheduler(1000, prediction_type="v_prediction")
    inner = tiny_unet()

    class Frozen(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            with torch.no_grad():
                return inner(x, timesteps=timesteps, class_labels=class_labels)

    with pytest.raises(ValueError, match="network: expected a prediction that can be differentiated by x"):
        inferer(noise_images(1, 1, 8, 8), RetimedNetwork(Frozen(), scheduler, inferer.process).eval())


def test_prediction_of_another_shape():
    class Wide(torch.nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            return torch.cat([x, x, x], 1)

    message = r"network: expected a prediction of the input's shape \[8, 1, 4, 4\], got \[8, 3, 4, 4\]"
    with pytest.raises(ValueError, match=message):
        make()(noise_images(2, 1, 4, 4), Wide().eval())


class Broken(torch.nn.Module):
    """NaN for images that are large somewhere."""

    def forward(self, x, timesteps, class_labels=None):
        return -x + torch.where(x.flatten(1).abs().amax(1) > 20, torch.nan, 0.0).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("solver", ["heun", "rk4", "multistep"])
def test_likelihoods_that_are_not_finite(solver):
    images = torch.tensor([0.0, 50.0, 0.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    with pytest.raises(
        ValueError, match=r"network: expected finite likelihoods, got NaN or infinity for image\(s\) \[1\]"
    ):
        make(**SOLVERS[solver])(images, Broken().eval())


def test_likelihoods_that_are_not_finite_of_the_adaptive_solver():
    images = torch.tensor([0.0, 50.0, 0.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"network: expected finite.*\(image 1 of the batch\)"):
        make(**SOLVERS["dopri5"])(images, Broken().eval())


def test_tolerance_that_cannot_be_met(monkeypatch):
    monkeypatch.setattr("monai_diffclf.inferers.ode_solvers.MAX_STEPS", 50)  # 500 take 10 s here
    with pytest.raises(
        ValueError, match="tolerance: expected one that the solver can meet, got 1e-14: .*take solver='rk4'"
    ):
        make(solver="dopri5", tolerance=1e-14)(noise_images(1, 1, 4, 4), score_unet())


def test_missing_class_labels():
    inferer = make(conditioning=lambda labels: {})
    with pytest.raises(ValueError, match="class_labels: expected the class of each image"):
        inferer(noise_images(1, 1, 4, 4), score_unet())


def test_conditioning_of_the_wrong_size():
    inferer = make(conditioning=lambda labels: {"class_labels": labels[:1]})
    with pytest.raises(ValueError, match=r"conditioning: expected class_labels with one row a label, \[2, ...\], got"):
        inferer(noise_images(1, 1, 4, 4), score_unet())


def test_bits_without_dequantisation():
    with pytest.raises(ValueError, match="dequantization: expected a UniformDequantization for bits per dimension"):
        make().bits_per_dimension(noise_images(1, 1, 4, 4), score_unet())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_draws": 0}, "num_draws: expected a positive integer, got 0"),
        ({"rule": "median"}, "rule: expected one of"),
        ({"time_sampling": "even"}, "time_sampling: expected one of"),
        ({"temperature": 0}, "temperature: expected a positive number, got 0"),
    ],
)
def test_settings_of_the_denoising_classifier(settings, message):
    with pytest.raises(ValueError, match=message):
        make().denoising_classifier(**settings)


def test_bound_from_one_draw():
    with pytest.raises(ValueError, match="errors: expected at least 2 draws"):
        make().variational_bound(noise_images(1, 1, 4, 4), score_unet(), num_draws=1)
