"""The contrastive term: an exact posterior, what its gradient does, its scale and balance, and its absence."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.classification import DenoisingErrors, LevelWeights, classify_errors
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.losses import ClassContrastiveLoss, DenoisingLoss, parameter_groups
from monai_diffclf.networks.nets import DiT
from monai_diffclf.networks.schedulers import NoiseProcess

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type="v_prediction")
PROCESS = NoiseProcess(SCHEDULER)
CLASSES = 3
ROOT = Path(__file__).resolve().parents[2]


def make(weight: float = 1.0, **settings) -> ClassContrastiveLoss:
    return ClassContrastiveLoss(SCHEDULER, CLASSES, weight=weight, **settings)


def make_targets(images: int = 6, *, level: float | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Each image under all classes, at levels spread over the schedule or at one."""
    generator = torch.Generator().manual_seed(seed)
    levels = (torch.arange(images) + 0.5) / images if level is None else torch.full((images,), level)
    labels = torch.arange(images) % CLASSES
    rows = torch.arange(images * CLASSES).view(images, CLASSES)
    target = torch.randn(images, 1, 4, 4, generator=generator).repeat_interleave(CLASSES, 0)
    timesteps = PROCESS.timesteps(levels.double()).repeat_interleave(CLASSES)
    own = rows[torch.arange(images), labels]
    return {"target": target, "timesteps": timesteps, "own": own, "contrasted": rows, "labels": labels}


def make_prediction(targets: dict[str, torch.Tensor], spread: float = 0.1, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(targets["target"].shape, generator=generator)
    sizes = 1 + spread * torch.randn(len(noise), 1, 1, 1, generator=generator)
    return (targets["target"] + 0.5 * noise * sizes).requires_grad_()


@pytest.mark.parametrize(
    "scheduler", [SCHEDULER, DDPMScheduler(1000), RFlowScheduler(1000)], ids=lambda s: s.prediction_type
)
@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_the_exact_denoiser_of_gaussian_classes_gives_the_exact_posterior_from_one_draw(scheduler, level, device):
    """Classes N(m_k, s^2): with noise that does not favour a class the errors are those of Bayes' rule, to a scale."""
    process, dims, s = NoiseProcess(scheduler), 16, 0.7
    generator = torch.Generator().manual_seed(0)
    means = torch.zeros(CLASSES, dims, dtype=torch.float64)
    means[:, :4] = torch.randn(CLASSES, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(5, dims, generator=generator, dtype=torch.float64)
    noise = torch.randn(5, dims, generator=generator, dtype=torch.float64)
    noise[:, :4] = 0
    timesteps = process.timesteps(torch.full((5,), level, dtype=torch.float64))
    alpha, sigma = (value[:, None] for value in process.alpha_sigma(timesteps))
    noisy, variance = alpha * x + sigma * noise, alpha**2 * s**2 + sigma**2
    epsilon = (sigma / variance)[:, None] * (noisy[:, None] - alpha[:, None] * means)  # E[noise | noisy, class]
    every = timesteps.repeat_interleave(CLASSES)
    factors = [value.repeat_interleave(CLASSES) for value in process.alpha_sigma(timesteps)]
    prediction = process.from_epsilon(epsilon.flatten(0, 1), noisy.repeat_interleave(CLASSES, 0), *factors)
    labels = torch.tensor([0, 1, 2, 0, 1])
    rows = torch.arange(5 * CLASSES).view(5, CLASSES)
    target = process.target(x, noise, timesteps).repeat_interleave(CLASSES, 0)
    targets = {"target": target, "timesteps": every, "own": rows[:, 0], "contrasted": rows, "labels": labels}
    targets = {name: value.to(device) for name, value in targets.items()}
    posterior = (-(x[:, None] - means).square().sum(2) / (2 * s**2)).softmax(1)
    expected = -posterior[torch.arange(5), labels].log().mean()

    loss = ClassContrastiveLoss(scheduler, CLASSES, weight=1.0, label_smoothing=0.0).to(device).eval()
    scale = float((variance / (s * alpha * sigma))[0]) ** 2
    loss.log_scale.data.fill_(math.log(scale))
    loss.squared_norms.fill_(1.0)  # a factor of 1
    denoising = DenoisingLoss(scheduler)
    own = {"target": targets["target"][rows[:, 0]], "timesteps": timesteps.to(device)}
    found = loss(prediction.to(device), targets) - denoising(prediction[rows[:, 0]].to(device), own)
    assert float(found) == pytest.approx(float(expected), rel=2e-3)
    # At a temperature that is not the right one it is another distribution.
    loss.log_scale.data.fill_(math.log(2 * scale))
    other = loss(prediction.to(device), targets) - denoising(prediction[rows[:, 0]].to(device), own)
    assert abs(float(other - expected)) > 0.01


def test_its_gradient_lowers_the_error_of_the_class_and_raises_those_of_the_others():
    loss, targets = make(label_smoothing=0.0), make_targets()
    prediction = make_prediction(targets)
    loss(prediction, targets)  # measures
    alone = loss(prediction, targets) - loss.eval()(
        prediction, {**targets, "contrasted": targets["contrasted"][:0], "labels": targets["labels"][:0]}
    )
    (gradient,) = torch.autograd.grad(alone, prediction)
    # The error falls along the gradient's opposite where gradient x (prediction - target) is positive.
    towards = (gradient * (prediction - targets["target"])).flatten(1).sum(1)
    own = torch.zeros(len(towards), dtype=torch.bool)
    own[targets["own"]] = True
    assert bool((towards[own] > 0).all())
    assert bool((towards[~own] < 0).all())


def test_without_weight_it_is_the_denoising_loss_to_the_bit():
    batch = {"image": torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), "label": torch.arange(8) % 3}
    losses = []
    for loss in (DenoisingLoss(SCHEDULER, gamma=4.0), make(0.0, gamma=4.0)):
        noisy, targets, _, _ = DenoisingPrepareBatch(SCHEDULER, 3, seed=3)(batch)
        prediction = (0.5 * noisy).requires_grad_()
        value = loss(prediction, targets)
        losses.append((value, *torch.autograd.grad(value, prediction)))
        assert not list(loss.parameters())
        assert not loss.state_dict()
    assert all(torch.equal(one, other) for one, other in zip(*losses, strict=True))
    # Of a batch under all classes it takes the rows of the images' own.
    targets = make_targets()
    prediction = make_prediction(targets)
    own = targets["own"]
    expected = DenoisingLoss(SCHEDULER)(prediction[own], {name: targets[name][own] for name in ("target", "timesteps")})
    assert torch.equal(make(0.0)(prediction, targets), expected)
    network = torch.nn.Linear(2, 1)
    assert parameter_groups(network, make(0.0)) == list(network.parameters())


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_an_undecided_image_pulls_as_strongly_as_said(weight):
    loss, targets = make(weight, label_smoothing=0.0), make_targets()
    prediction = make_prediction(targets, spread=0.0).detach()
    first = targets["contrasted"][:, :1].expand(-1, CLASSES).flatten()  # the same prediction under all classes
    prediction = prediction[first].requires_grad_()
    loss(prediction, targets)  # measures
    whole = loss(prediction, targets)
    none = {"contrasted": targets["contrasted"][:0], "labels": targets["labels"][:0]}
    denoising = loss.eval()(prediction, {**targets, **none})
    norms = [
        torch.autograd.grad(value, prediction, retain_graph=True)[0].norm() for value in (whole - denoising, denoising)
    ]
    assert float(norms[0] / norms[1]) == pytest.approx(weight, rel=1e-4)


def test_the_balance_is_a_moving_average_and_part_of_the_state():
    loss = make()
    seen = []
    for seed in range(3):
        targets = make_targets(seed=seed)
        loss(make_prediction(targets, seed=10 + seed), targets)
        seen.append(loss.factor)
    assert len({*seen}) == 3
    again = make()
    again.load_state_dict(loss.state_dict())
    assert again.factor == loss.factor
    assert bool(again.measured)
    targets = make_targets(seed=9)
    prediction = make_prediction(targets, seed=19)
    assert torch.equal(loss(prediction, targets), again(prediction, targets))
    before = loss.factor
    loss.eval()(prediction, targets)
    assert loss.factor == before


def test_the_scale_starts_by_the_size_of_the_differences():
    """Differences of a tenth of the error: a tenth of 1 over their size in nats, band by band."""
    limits = {"log_snr_range": (-2.0, 2.0)}  # in which the errors' logarithm is nearly quadratic
    loss, targets = make(**limits), make_targets(64)
    ratio = torch.tensor([0.9, 1.0, 1.1]).sqrt().repeat(64).view(-1, 1, 1, 1)
    prediction = targets["target"] + 0.5 * ratio
    loss(prediction, targets)
    centres = (loss.edges[1:] + loss.edges[:-1]) / 2
    alpha2 = centres.sigmoid()  # an error of v is one of epsilon times alpha^2
    spread = 0.25 * torch.tensor([0.9, 1.0, 1.1]).std(correction=0) * alpha2 * 16 / 2
    expected = {"rtol": 0.1, "atol": 0.0}
    torch.testing.assert_close(loss.log_scale.detach().exp().double(), 1 / (10 * spread), **expected)
    # Of a network that is not trained: 1 over 1 % of the error.
    untrained = make(**limits)
    untrained(targets["target"] + 0.5, targets)
    error = 0.25 * alpha2 * 16 / 2
    torch.testing.assert_close(untrained.log_scale.detach().exp().double(), 1 / (0.01 * error), **expected)
    # Once: the parameter then belongs to the optimizer.
    first = loss.log_scale.detach().clone()
    loss(targets["target"] + 5 * ratio, targets)
    assert torch.equal(loss.log_scale.detach(), first)


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e30])
def test_an_overflow_is_not_measured(value):
    """As in float16 under a GradScaler, which then leaves the step out: the next batch is as if it had not been."""
    loss, undisturbed, targets = make(), make(), make_targets()
    prediction = make_prediction(targets)
    broken = prediction.detach().clone()
    broken[targets["contrasted"][0, 1]] = value  # of one image, under one class
    loss(broken, targets)
    assert not bool(loss.measured) and loss.factor == 0.0 and loss.learned() is None
    assert torch.equal(loss(prediction, targets), undisturbed(prediction, targets))
    factor = loss.factor
    loss(broken, targets)
    assert loss.factor == factor > 0
    loss(prediction, targets)
    undisturbed(prediction, targets)
    for name, state in undisturbed.state_dict().items():
        assert torch.equal(loss.state_dict()[name], state), name


def test_images_beyond_the_range_are_denoised_only():
    loss = make(log_snr_range=(1.0, 4.0))
    inside = make_targets(level=0.2)
    outside = make_targets(level=0.7)
    assert 1 < float(PROCESS.log_snr(inside["timesteps"])[0]) < 4
    loss(make_prediction(inside), inside)
    prediction = make_prediction(outside)
    none = {"contrasted": outside["contrasted"][:0], "labels": outside["labels"][:0]}
    assert torch.equal(loss(prediction, outside), loss(prediction, {**outside, **none}))
    # The scale is in the graph all the same, for other processes may have images inside.
    loss(prediction, outside).backward()
    assert loss.log_scale.grad is not None and not loss.log_scale.grad.any()


@pytest.mark.parametrize("log_snr_range", [None, (-1.0, 5.0)])
def test_what_is_learned_decides_as_the_loss_did(log_snr_range, device):
    """The classifier's probabilities from draws over the schedule are the softmax of the mean of the loss's logits."""
    loss = make(log_snr_range=log_snr_range).to(device)
    assert loss.learned() is None
    targets = {name: value.to(device) for name, value in make_targets(60).items()}
    prediction = make_prediction({name: value.cpu() for name, value in targets.items()}).detach().to(device)
    loss(prediction, targets)
    loss.log_scale.data += torch.linspace(-1, 1, 8, device=device)
    learned = loss.learned()
    weights = LevelWeights.from_dict(learned["level_weights"])
    levels = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    timesteps = PROCESS.timesteps(levels)
    log_snr = PROCESS.log_snr(timesteps)
    values = torch.rand(4, CLASSES, 400, generator=torch.Generator().manual_seed(0))
    errors = DenoisingErrors(values, timesteps, log_snr, num_elements=16)
    found = classify_errors(errors, "mean", weighting=weights, temperature=learned["temperature"]).probabilities
    inside = torch.ones(400, dtype=torch.bool)
    if log_snr_range is not None:
        inside = (log_snr >= log_snr_range[0]) & (log_snr <= log_snr_range[1])
    scale = loss.log_scale.detach().cpu().double().exp()[loss._band(log_snr[inside].to(device)).cpu()]
    expected = (-(values[:, :, inside].double() * scale).mean(2) * 16 / 2).softmax(1)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=1e-4)
    schedule = weights.at(log_snr).mean()
    assert float(schedule) == pytest.approx(1, rel=0.02)


def test_one_step_of_training_learns_scale_and_network(device):
    torch.manual_seed(0)
    network = DiT(2, 1, 8, 4, hidden_size=16, num_layers=1, num_heads=2, num_class_embeds=4).to(device)
    loss = make()
    groups = parameter_groups(network, loss, 0.1)
    assert next(loss.parameters()).device.type == device
    optimizer = torch.optim.AdamW(groups, 1e-3, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    prepare = DenoisingPrepareBatch(SCHEDULER, 3, all_classes=True)
    batch = {"image": torch.rand(12, 1, 8, 8), "label": torch.arange(12) % 3}
    for _ in range(4):  # the first steps open the gates through which the class reaches the output
        noisy, targets, _, arguments = prepare(batch, device)
        optimizer.zero_grad()
        value = loss(network(noisy, **arguments), targets)
        value.backward()
        before = loss.log_scale.detach().clone()
        optimizer.step()
        assert torch.isfinite(value)
    assert not torch.equal(before, loss.log_scale.detach())


@pytest.mark.slow
def test_processes_agree(tmp_path):
    """Two processes with different images end with the same scale and balance: as one with the images of both."""
    command = [sys.executable, "-m", "tests.losses.contrast_in_processes", str(tmp_path)]
    ranks = [subprocess.Popen([*command, str(rank), "2"], cwd=ROOT) for rank in range(2)]
    assert [process.wait(600) for process in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
    assert torch.equal(first["gradient"], second["gradient"])
    subprocess.run([*command, "0", "1"], check=True, cwd=ROOT)
    alone = torch.load(tmp_path / "rank_0.pt", weights_only=True)
    torch.testing.assert_close(first["state"]["log_scale"], alone["state"]["log_scale"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_processes_leave_out_the_same_batch(tmp_path):
    """One process has an overflow in its first batch: no process measures it."""
    command = [sys.executable, "-m", "tests.losses.contrast_in_processes", str(tmp_path)]
    ranks = [subprocess.Popen([*command, str(rank), "2", "overflow"], cwd=ROOT) for rank in range(2)]
    assert [process.wait(600) for process in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True)["state"] for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]) and bool(torch.isfinite(value).all()), name
    assert bool(first["measured"]) and bool((first["squared_norms"] > 0).all())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight": "1"}, "weight: expected a number of at least 0, got '1'"),
        ({"weight": -1.0}, "weight: expected a number of at least 0, got -1.0"),
        ({"weight": math.inf}, "weight: expected a number of at least 0, got inf"),
        ({"num_bands": 0}, "num_bands: expected a positive integer, got 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing: expected a number in \[0, 1\), got 1.0"),
        ({"log_snr_range": (4.0, 1.0)}, r"log_snr_range: expected None or two ascending numbers, got \[4.0, 1.0\]"),
        ({"log_snr_range": 5}, "log_snr_range: expected None or two ascending numbers, got 5"),
        ({"log_snr_range": "12"}, "log_snr_range: expected None or two ascending numbers, got '12'"),
        ({"log_snr_range": (None, 1.0)}, "log_snr_range: expected None or two ascending numbers"),
        ({"label_smoothing": None}, r"label_smoothing: expected a number in \[0, 1\), got None"),
        ({"gamma": "5"}, "gamma: expected a positive number, got '5'"),
        ({"denoising_weighting": "elbo"}, "weighting: expected one of"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        make(**settings)


def test_bad_targets_are_refused():
    with pytest.raises(ValueError, match="num_classes: expected an integer of at least 2, got 1"):
        ClassContrastiveLoss(SCHEDULER, 1)
    targets = make_targets()
    with pytest.raises(ValueError, match=r"targets: expected rows of contrasted images \[M, 3\] and their labels"):
        make()(make_prediction(targets), {**targets, "contrasted": targets["contrasted"][:, :2]})
    with pytest.raises(ValueError, match="prediction: expected the target's shape"):
        make()(make_prediction(targets)[:, :, :2], targets)


def test_labels_are_classes():
    loss, targets = make(), make_targets()
    prediction = make_prediction(targets)
    for labels, said in (
        (targets["labels"] + 1, r"targets\['labels'\]: expected class numbers from 0 to 2, got 3 in 2 image"),
        (targets["labels"] - 1, r"targets\['labels'\]: expected class numbers from 0 to 2, got -1"),
        (targets["labels"] + 0.5, r"targets\['labels'\]: expected class numbers from 0 to 2, got 0.5"),
    ):
        with pytest.raises(ValueError, match=said):
            loss(prediction, {**targets, "labels": labels})
    assert not bool(loss.measured), "refused before anything is measured"
    whole = make()(prediction, {**targets, "labels": targets["labels"].float()})
    assert torch.equal(whole, make()(prediction, targets))


def test_it_can_be_copied():
    loss = make()
    targets = make_targets()
    loss(make_prediction(targets), targets)
    assert copy.deepcopy(loss).learned() == loss.learned()
