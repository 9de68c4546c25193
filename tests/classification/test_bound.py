"""The variational bound from errors: its value by hand, and its standard error against what draws do."""

from __future__ import annotations

import math

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors, VariationalBound, variational_bound


def make_errors(values: torch.Tensor, levels: torch.Tensor | None = None, **fields) -> DenoisingErrors:
    draws = values.shape[2]
    levels = torch.linspace(10, -10, draws) if levels is None else levels
    fields = {"log_snr_rate": torch.full((draws,), 20.0), "num_elements": 16, **fields}
    return DenoisingErrors(values, torch.arange(draws), levels, **fields)


def random_values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_value_by_hand(device):
    values = random_values(3, 2, 7)
    rate = torch.arange(1.0, 8.0)
    constant = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    errors = make_errors(values, log_snr_rate=rate)
    bound = variational_bound(errors.to(device), constant.to(device))
    assert isinstance(bound, VariationalBound)
    expected = constant - 8 * (values.double() * rate.double()).mean(2)
    torch.testing.assert_close(bound.value.cpu(), expected)
    assert bound.value.dtype == bound.standard_error.dtype == bound.difference_error.dtype == torch.float64
    assert bound.value.device.type == device
    assert torch.equal(bound.errors.values.cpu(), values)


def test_importance_of_sampled_levels_counts():
    values, importance = random_values(2, 2, 6), torch.linspace(0.5, 2, 6)
    got = variational_bound(make_errors(values, importance=importance)).value
    torch.testing.assert_close(got, -8 * (values.double() * 20 * importance.double()).mean(2))


def test_order_of_draws_does_not_matter():
    values, levels = random_values(3, 2, 9), torch.linspace(10, -10, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    a = variational_bound(make_errors(values, levels))
    b = variational_bound(make_errors(values[:, :, order], levels[order]))
    torch.testing.assert_close(a.value, b.value)
    torch.testing.assert_close(a.standard_error, b.standard_error)
    torch.testing.assert_close(a.difference_error, b.difference_error)


def test_standard_error_is_von_neumanns():
    """Half the mean squared difference of neighbours, over the number of draws."""
    values = random_values(2, 2, 5).double()
    terms = -0.5 * 16 * 20 * values
    expected = torch.stack([(terms[:, :, i + 1] - terms[:, :, i]).square() for i in range(4)]).mean(0) / 2 / 5
    bound = variational_bound(make_errors(values))
    torch.testing.assert_close(bound.standard_error, expected.sqrt())
    gap = terms[:, 0] - terms[:, 1]
    gap_error = (gap.diff().square().mean(1) / 2 / 5).sqrt()
    torch.testing.assert_close(bound.difference_error[:, 0, 1], gap_error)
    torch.testing.assert_close(bound.difference_error, bound.difference_error.mT)
    assert (bound.difference_error.diagonal(dim1=1, dim2=2) == 0).all()


def draw(seed: int, curve: bool) -> DenoisingErrors:
    """Stratified levels, an error that falls with the log-SNR (or is flat), and noise common to both classes."""
    generator = torch.Generator().manual_seed(seed)
    count = 64
    level = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    log_snr = 10 - 20 * level
    mean = torch.sigmoid(log_snr) if curve else torch.full((count,), 0.5)
    noise = 0.1 * torch.randn(300, 1, count, generator=generator)
    own = 0.01 * torch.randn(300, 2, count, generator=generator)
    return make_errors(mean + noise + own, log_snr)


@pytest.mark.parametrize("curve", [False, True], ids=["flat", "falling with the level"])
def test_standard_error_is_the_spread_of_the_mean(curve):
    """300 images whose noise is independent but whose levels are shared: over 30 sets of levels."""
    bounds = [variational_bound(draw(seed, curve)) for seed in range(30)]
    spread = torch.stack([b.value for b in bounds]).var(0).mean().sqrt()
    stated = torch.stack([b.standard_error for b in bounds]).square().mean().sqrt()
    # 18,000 numbers in 300 x 30 groups: known to 1 %. Of a curve the strata remove what neighbours do not, a third.
    assert float(stated / spread) == pytest.approx(1, abs=0.05)
    plain = torch.stack([b.errors.values.double().std(2) * 160 / 8 for b in bounds]).square().mean().sqrt()
    if curve:
        assert stated < 0.4 * plain, "levels' differences are no error: they are in every sample of the strata"
    gap = torch.stack([b.value[:, 0] - b.value[:, 1] for b in bounds]).var(0).mean().sqrt()
    stated_gap = torch.stack([b.difference_error[:, 0, 1] for b in bounds]).square().mean().sqrt()
    assert float(stated_gap / gap) == pytest.approx(1, abs=0.05)
    assert stated_gap < 0.2 * stated, "0.01 sqrt(2) of 0.1"


def test_refuses():
    with pytest.raises(ValueError, match="errors: expected at least 2 draws, from one there is no standard error"):
        variational_bound(make_errors(random_values(1, 2, 1)))
    values = random_values(1, 2, 4)
    values[0, 1, 3] = math.nan
    with pytest.raises(ValueError, match="errors: expected all draws of all classes, some were not evaluated"):
        variational_bound(make_errors(values))
    with pytest.raises(ValueError, match="log_snr_rate"):
        variational_bound(make_errors(random_values(1, 2, 4), log_snr_rate=None))
