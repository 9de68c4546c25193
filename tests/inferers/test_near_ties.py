"""Reduced precision: what rounding could have turned is made again in full precision, and nothing else."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import DifferenceModel, PredictiveCurtailment, SequentialTest, classify_errors
from monai_diffclf.inferers import DiffusionClassifierInferer, MultiLabelClassifierInferer

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", log_snr_min=-6.0, log_snr_max=6.0)
DRAWS, PILOT = 21, 8


class Close(torch.nn.Module):
    """Predicts with two matrices, the second of which depends on the class by a little: autocast rounds both."""

    def __init__(self, gap: float, classes: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.second = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)
        self.shift = torch.nn.Parameter(gap * torch.randn(classes, 16, generator=generator))
        for layer in (self.first, self.second):
            torch.nn.init.normal_(layer.weight, std=0.25, generator=generator)
            torch.nn.init.zeros_(layer.bias)
        self.full: list[bool] = []
        self.eval()

    def forward(self, x, timesteps, class_labels):
        out = self.second(torch.tanh(self.first(x.flatten(1) + self.shift[class_labels])))
        self.full += [out.dtype == torch.float32] * len(x)
        return out.view_as(x)


IMAGES = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def classify(network, *, amp=None, classes=2, **kwargs):
    inferer = DiffusionClassifierInferer(SCHEDULER, classes, num_draws=DRAWS, amp_dtype=amp, **kwargs)
    network.full.clear()
    return inferer.classify(IMAGES, network)


@pytest.mark.parametrize("gap", [0.01, 0.1])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
def test_the_class_is_that_of_full_precision(rule, classes, gap):
    network = Close(gap, classes)
    settings = {"rule": rule, "classes": classes, "weighting": "min_snr"}
    exact = classify(network, **settings)
    assert all(network.full)
    result = classify(network, amp=torch.bfloat16, **settings)
    assert torch.equal(result.predicted, exact.predicted)
    assert sum(network.full) >= 60 * PILOT * classes
    # Every evaluation is counted, those made twice twice.
    assert int(result.network_evaluations.sum()) == len(network.full)
    assert int(result.network_evaluations.sum()) - 60 * DRAWS * classes == sum(network.full)
    again = result.errors.values == exact.errors.values
    assert again.all(1).sum(1).min() >= PILOT
    assert result.errors.values.dtype == torch.float32


@pytest.mark.parametrize("rule", ["vote", "mean"])
@pytest.mark.parametrize("gap", [1e-4, 0.01])
def test_without_making_again_classes_would_differ(rule, gap):
    # What rounding does is estimated from a few draws: where classes differ by far less than it, a few are missed.
    network = Close(gap)
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=DRAWS, amp_dtype=torch.bfloat16)
    exact = classify(network, rule=rule).predicted
    rounded = classify_errors(inferer.compute_errors(IMAGES, network), rule).predicted
    again = classify(network, rule=rule, amp=torch.bfloat16).predicted
    assert (rounded != exact).sum() > (15 if gap < 0.01 else 0)
    assert (again != exact).sum() <= (6 if gap < 0.01 else 0)


@pytest.mark.parametrize("rule", ["vote", "mean", "weighted_vote"])
def test_clear_images_are_made_again_in_the_pilot_draws_only(rule):
    network = Close(0.0)
    network.shift.data[1] = 8.0
    result = classify(network, amp=torch.bfloat16, rule=rule)
    assert result.network_evaluations.tolist() == [2 * (DRAWS + PILOT)] * 60
    assert sum(network.full) == 60 * 2 * PILOT


def test_near_ties_alone_pay():
    network = Close(0.0)
    network.shift.data[1, :8] = torch.linspace(0, 0.1, 8)  # some of 60 images are near ties, with any seed
    result = classify(network, amp=torch.bfloat16, rule="mean")
    exact = classify(network, rule="mean")
    assert torch.equal(result.predicted, exact.predicted)
    dear = result.network_evaluations > 2 * (DRAWS + PILOT)
    margin = (exact.mean_error[:, 0] - exact.mean_error[:, 1]).abs()
    assert 0 < dear.sum() < 40
    assert margin[dear].mean() < margin[~dear].mean()
    assert (result.network_evaluations[dear] == 2 * 2 * DRAWS).all(), "a doubtful mean is made again as a whole"


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_with_a_stopping_rule(rule):
    network, stopping = Close(0.3, 3), SequentialTest(0.2)
    network.shift.data[2] = 9.0
    exact = classify(network, classes=3, rule=rule, stopping=stopping)
    result = classify(network, classes=3, rule=rule, stopping=stopping, amp=torch.bfloat16)
    assert int(result.network_evaluations.sum()) == len(network.full)
    made = result.errors.evaluated
    assert (result.network_evaluations - made.sum((1, 2)) <= made.sum((1, 2))).all()
    assert result.guarantee == stopping.guarantee
    same = (made == exact.errors.evaluated).all((1, 2))
    assert same.sum() > 40, "rounding seldom changes when an image stops"
    assert torch.equal(result.predicted[same], exact.predicted[same])
    if rule == "mean":
        assert not made[:, 2].all(), "classes given up stay given up"


def test_with_a_rule_that_decides_by_forecast():
    network = Close(0.3)
    errors = DiffusionClassifierInferer(SCHEDULER, num_draws=DRAWS).compute_errors(IMAGES, network)
    stopping = PredictiveCurtailment(0.2, DifferenceModel.fit(errors, "mean", num_bands=4))
    exact = classify(network, rule="mean", stopping=stopping)
    result = classify(network, rule="mean", stopping=stopping, amp=torch.bfloat16)
    assert exact.errors.network_evaluations.double().mean() < 1.5 * DRAWS
    assert torch.equal(result.predicted, stopping.mean_errors(result.errors).argmin(1))
    same = (result.errors.evaluated == exact.errors.evaluated).all((1, 2))
    assert same.sum() > 40
    assert torch.equal(result.predicted[same], exact.predicted[same])
    # What is in doubt is told by the forecast: with all its draws in float32 an image has the same mean errors, but for
    # the order in which a processor sums them.
    dear = result.network_evaluations == 2 * result.errors.network_evaluations
    torch.testing.assert_close(result.mean_error[same & dear], exact.mean_error[same & dear], rtol=1e-12, atol=0)


def test_float16_too():
    network = Close(1e-3)
    exact, result = (classify(network, amp=amp, rule="mean") for amp in (None, torch.float16))
    assert torch.equal(result.predicted, exact.predicted)


@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_an_autocast_around_is_heeded_as_amp_dtype_is(rule):
    network = Close(0.01)
    named = classify(network, rule=rule, amp=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        around = classify(network, rule=rule)
        assert sum(network.full) >= 60 * PILOT * 2, "near ties were not made again"
    assert torch.equal(around.errors.values, named.errors.values)
    assert torch.equal(around.probabilities, named.probabilities)
    assert torch.equal(around.network_evaluations, named.network_evaluations)
    assert torch.equal(around.predicted, classify(network, rule=rule).predicted)


def test_amp_dtype_counts_before_an_autocast_around():
    network = Close(0.01)
    named = classify(network, amp=torch.bfloat16)
    with torch.autocast("cpu", torch.float16):
        around = classify(network, amp=torch.bfloat16)
    assert torch.equal(around.errors.values, named.errors.values)


def test_findings_under_an_autocast():
    network = Close(0.01, 9)

    def findings(amp=None):
        states = {"conditioning": lambda states: {"class_labels": states[:, 0] * 3 + states[:, 1]}}
        inferer = MultiLabelClassifierInferer(SCHEDULER, 2, num_draws=DRAWS, amp_dtype=amp, **states)
        return inferer.classify(IMAGES, network)

    with torch.autocast("cpu", torch.bfloat16):
        around = findings()
    assert torch.equal(around.errors.values, findings(torch.bfloat16).errors.values)
    assert not torch.equal(around.errors.values, findings().errors.values)


def test_no_images():
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=DRAWS, amp_dtype=torch.bfloat16)
    result = inferer.classify(IMAGES[:0], Close(0.1))
    assert len(result) == 0
    assert result.network_evaluations.tolist() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, "bfloat16"])
def test_refuses(dtype):
    with pytest.raises(ValueError, match="amp_dtype: expected None, torch.float16 or torch.bfloat16, got"):
        DiffusionClassifierInferer(SCHEDULER, amp_dtype=dtype)
