"""The moving average of a training's weights: its rule and its state."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Engine

from monai_diffclf.handlers import MovingAverage, ResumableCheckpoint
from monai_diffclf.handlers.moving_average import moving_average_decay


def test_the_average_is_that_of_the_formula():
    network = torch.nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(network, 0.9), 0.0
    for step in range(200):
        value = float(torch.sin(torch.tensor(step * 0.3)))
        torch.nn.init.constant_(network.weight, value)
        average.update()
        decay = 0.0 if step == 0 else min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.ema_model.weight.item() == pytest.approx(expected, abs=1e-6)
    assert average.steps == 200


@pytest.mark.parametrize("steps", [50, 144, 500])
def test_little_is_left_of_the_first_weights_after_few_steps(steps):
    """The share of the weights before step n / 3 in the average; of a constant decay of .995 most would be left."""
    shares = torch.zeros(steps)
    for step in range(steps):
        decay = 0.0 if step == 0 else moving_average_decay(step, 0.995)
        shares = shares * decay
        shares[step] = 1 - decay
    assert shares.sum().item() == pytest.approx(1)
    assert shares[: steps // 3].sum() < 0.001
    assert 0.995**steps > 0.08, "what the former rule kept of the network before its first step"


def test_decay_ends_at_the_limit():
    assert moving_average_decay(10**6, 0.995) == 0.995
    decays = [moving_average_decay(step, 0.995) for step in range(3000)]
    assert decays == sorted(decays) and decays[1790] == 0.995 > decays[1780]


def train(network, average, steps, path=None):
    generator = torch.Generator()

    def step(engine, batch):
        generator.manual_seed(engine.state.iteration)
        for weight in network.parameters():
            weight.data += torch.randn(weight.shape, generator=generator)

    engine = Engine(step)
    average.attach(engine)
    if path is not None:
        ResumableCheckpoint(path, {"network": network, "ema": average}).attach(engine)
    engine.run([0] * 5, max_epochs=steps // 5)


def test_a_resumed_average_goes_on_to_the_bit(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    whole, again, later = (copy.deepcopy(network) for _ in range(3))
    undisturbed = MovingAverage(whole)
    train(whole, undisturbed, 60)
    train(again, MovingAverage(again), 25, tmp_path / "checkpoint.pt")
    resumed = MovingAverage(later)
    train(later, resumed, 60, tmp_path / "checkpoint.pt")
    assert resumed.steps == undisturbed.steps == 60
    for name, value in undisturbed.ema_model.state_dict().items():
        assert torch.equal(value, resumed.ema_model.state_dict()[name]), name


def test_buffers_are_copied_and_the_average_is_in_eval_mode():
    network = torch.nn.BatchNorm1d(2)
    average = MovingAverage(network.train())
    network(torch.randn(8, 2))
    average.update()
    network(torch.randn(8, 2))
    average.update()
    assert torch.equal(average.ema_model.running_mean, network.running_mean)
    assert not average.ema_model.training and network.training
    assert not any(weight.requires_grad for weight in average.ema_model.parameters())


def test_a_state_without_steps_is_refused():
    average = MovingAverage(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="ema: expected a moving average with its number of steps, got the weights"):
        average.load_state_dict(torch.nn.Linear(1, 1).state_dict())


def test_up_to_the_start_the_average_is_the_weights_themselves():
    network = torch.nn.Linear(3, 3)
    average = MovingAverage(network, start=5)
    for step in range(12):
        torch.nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(step))
        average.update()
        assert torch.equal(average.ema_model.weight, network.weight) == (step < 5), step


@pytest.mark.parametrize("start", [-1, 1.5, True, None])
def test_start_is_checked(start):
    with pytest.raises(ValueError, match="start: expected an integer of at least 0, got "):
        MovingAverage(torch.nn.Linear(1, 1), start=start)


@pytest.mark.parametrize("limit", [1.0, -0.1, "x", None, float("nan")])
def test_limit_is_checked(limit):
    with pytest.raises(ValueError, match=r"limit: expected a decay in \[0, 1\), got "):
        MovingAverage(torch.nn.Linear(1, 1), limit)
