"""Stored errors: prefixes, selections, joins, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors


def make(images: int = 5, classes: int = 3, draws: int = 7, *, seed: int = 0, rate: bool = True) -> DenoisingErrors:
    values = torch.rand(images, classes, draws, generator=torch.Generator().manual_seed(seed))
    log_snr = torch.linspace(5, -5, draws)
    return DenoisingErrors(
        values, torch.arange(draws) * 10, log_snr, log_snr.abs() + 1 if rate else None, num_elements=16
    )


def test_sizes():
    errors = make()
    assert (len(errors), errors.num_classes, errors.num_draws) == (5, 3, 7)
    assert errors.network_evaluations.tolist() == [21] * 5
    assert errors.network_evaluations.dtype == torch.int64


def test_draws_not_made_cost_nothing():
    errors = make()
    errors.values[1, :, 4:] = torch.nan
    errors.values[2, 0, 6] = torch.nan
    assert errors.network_evaluations.tolist() == [21, 12, 20, 21, 21]
    assert not errors.evaluated[1, :, 4:].any()


@pytest.mark.parametrize("rate", [True, False])
def test_first(rate):
    errors = make(rate=rate)
    few = errors.first(4)
    assert torch.equal(few.values, errors.values[:, :, :4])
    assert torch.equal(few.timesteps, errors.timesteps[:4])
    assert torch.equal(few.log_snr, errors.log_snr[:4])
    assert (few.log_snr_rate is None) is not rate
    assert few.num_elements == 16
    assert torch.equal(errors.first(7).values, errors.values)
    assert torch.equal(errors.first(5).first(2).values, errors.first(2).values)


@pytest.mark.parametrize("number", [0, 8, -1])
def test_first_refuses(number):
    with pytest.raises(ValueError, match=f"num_draws: expected 1 to 7, the draws there are; got {number}"):
        make().first(number)


@pytest.mark.parametrize(
    "images", [slice(1, 3), torch.tensor([4, 0]), torch.tensor([True, False, False, True, False])], ids=str
)
def test_selection(images):
    errors = make()
    part = errors[images]
    assert torch.equal(part.values, errors.values[images])
    assert len(part) == 2
    assert torch.equal(part.log_snr, errors.log_snr)


def test_select_takes_draws_in_any_order():
    errors = replace(make(), importance=torch.rand(7))
    draws = torch.tensor([6, 0, 3])
    part = errors.select(draws)
    assert torch.equal(part.values, errors.values[:, :, draws])
    for name in ("timesteps", "log_snr", "log_snr_rate", "importance"):
        assert torch.equal(getattr(part, name), getattr(errors, name)[draws])
    assert make(rate=False).select(draws).log_snr_rate is None


def test_concatenate_undoes_a_split():
    errors = make()
    joined = DenoisingErrors.concatenate([errors[:2], errors[2:2], errors[2:]])
    assert torch.equal(joined.values, errors.values)
    assert joined.num_elements == 16


def test_concatenate_refuses():
    with pytest.raises(ValueError, match="parts: expected at least one DenoisingErrors, got none"):
        DenoisingErrors.concatenate([])
    with pytest.raises(TypeError, match="parts: expected DenoisingErrors, got Tensor as part 1"):
        DenoisingErrors.concatenate([make(), make().values])
    one = make()
    for other, name in (
        (make(draws=6), "timesteps"),
        (make(classes=2), "num_classes"),
        (replace(one, num_elements=4096), "num_elements"),
        (replace(one, timesteps=one.timesteps + 1), "timesteps"),
        (replace(one, log_snr=2 * one.log_snr), "log_snr"),
        (replace(one, log_snr_rate=2 * one.log_snr_rate), "log_snr_rate"),
        (replace(one, log_snr_rate=None), "log_snr_rate"),
        (replace(one, importance=torch.ones(7)), "importance"),
    ):
        with pytest.raises(ValueError, match=f"parts: expected the same .* got another {name} in part 2 than in"):
            DenoisingErrors.concatenate([one, one, other])


def test_draws_that_differ_by_rounding_are_the_same():
    one = make()
    rounded = replace(one, timesteps=one.timesteps.double(), log_snr=one.log_snr.double() + 1e-7)
    assert len(DenoisingErrors.concatenate([one, rounded])) == 2 * len(one)


@pytest.mark.parametrize("rate", [True, False])
def test_to(rate, device):
    errors = make(rate=rate)
    moved = errors.to(device)
    assert moved.values.device.type == moved.timesteps.device.type == moved.log_snr.device.type == device
    assert torch.equal(moved.to("cpu").values, errors.values)


@pytest.mark.parametrize("shape", [(5, 3), (5, 0, 7), (5, 3, 0)])
def test_values_are_checked(shape):
    with pytest.raises(ValueError, match=r"values: expected shape \[image, class, draw\]"):
        DenoisingErrors(torch.zeros(shape), torch.arange(7), torch.zeros(7))


@pytest.mark.parametrize("name", ["timesteps", "log_snr", "log_snr_rate", "importance"])
def test_vectors_are_checked(name):
    vectors = {"timesteps": torch.arange(7), "log_snr": torch.zeros(7), "log_snr_rate": torch.ones(7)}
    vectors["importance"] = torch.ones(7)
    vectors[name] = vectors[name][:6]
    with pytest.raises(ValueError, match=rf"{name}: expected one number a draw, \[7\], got \[6\]"):
        DenoisingErrors(torch.zeros(5, 3, 7), **vectors)


@pytest.mark.parametrize("name", ["timesteps", "log_snr", "log_snr_rate", "importance"])
def test_what_is_known_of_a_draw_is_a_number(name):
    vectors = {each: torch.ones(7) for each in ("timesteps", "log_snr", "log_snr_rate", "importance")}
    # As at the end of a schedule:
    DenoisingErrors(torch.zeros(5, 3, 7), **vectors | {name: torch.full((7,), torch.inf)})
    vectors[name][3] = torch.nan
    with pytest.raises(ValueError, match=f"{name}: expected a number for each draw, got NaN"):
        DenoisingErrors(torch.zeros(5, 3, 7), **vectors)


def test_values_are_floats():
    for values, got in (
        (torch.zeros(5, 3, 7).numpy(), "a Tensor .*, got ndarray"),
        (torch.zeros(5, 3, 7).long(), "floating point errors, got torch.int64"),
    ):
        with pytest.raises(TypeError, match=f"values: expected {got}"):
            DenoisingErrors(values, torch.arange(7), torch.zeros(7))


def test_no_images():
    errors = make(images=0)
    assert len(errors) == 0
    assert errors.network_evaluations.tolist() == []
