"""Evidence without replacement: expectation at most 1 under the null hypothesis, at every time, and Ville's bound.

Betting is exact: its expectation is enumerated. So is that of the process for differences without bounds, up to the
first draw at which its assumption fails; its rates are simulated as well, in populations whose total is exactly 0, the
hardest case.
"""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_diffclf.classification import e_process, log_e_betting, log_e_unbounded

IMAGES, DRAWS = 4000, 40
ALPHAS = (0.01, 0.05, 0.2)


def shuffle(x: np.ndarray, seed: int = 1) -> torch.Tensor:
    """Every row in a random order of its own."""
    return torch.from_numpy(np.random.default_rng(seed).permuted(x, axis=1))


def largest(process, x: torch.Tensor) -> torch.Tensor:
    """The largest log e-value over all looks but the last, at which nothing is left to be tested."""
    return torch.stack([process(x[:, :n], x.shape[1]) for n in range(1, x.shape[1])]).max(0).values


def upper_rate(wrong: torch.Tensor) -> float:
    """Clopper-Pearson: the rate is below this with 99.9 % confidence."""
    return stats.binomtest(int(wrong.sum()), len(wrong)).proportion_ci(0.998).high


@pytest.mark.parametrize(
    "population",
    [
        [1, 1, 1, -1, -1, -1],
        [1, 0, 0, 0, -1, 0],
        [1, 1, 0, 0, 0, -1, -1],
        [0.5, 0.5, -1, 1, -0.5, -0.5],
        [1, 1, -0.2, -0.2, -0.2, -0.2, -0.2, -1],
        [1, 1, -1, -1, -1],  # below a tie
        [0, 0, 0, 0],
        [-1, -1, 0],
    ],
    ids=str,
)
def test_betting_has_expectation_at_most_one_at_every_time(population):
    orders = torch.tensor(sorted(set(permutations(population)))).double()
    # Distinct arrangements of a multiset are equally likely.
    for made in range(1, len(population) + 1):
        mean = log_e_betting(orders[:, :made], len(population)).exp().mean().item()
        assert mean <= 1 + 1e-9
        if math.fsum(population) == 0:
            assert mean == pytest.approx(1), "under a tie every bet is fair"


@pytest.mark.parametrize(
    "population",
    [[1, -1] * 20, [1, -1] * 10 + [0] * 20, [1] + [-1] + [0] * 38, [1] * 10 + [-0.5] * 20 + [0] * 10],
    ids=["halves", "half undecided", "one against one", "one against two halves"],
)
def test_betting_on_ties_is_seldom_wrong_at_any_look(population):
    x = shuffle(np.tile(np.array(population, dtype=np.float64), (IMAGES, 1)))
    e = largest(log_e_betting, x)
    for alpha in ALPHAS:
        assert upper_rate(e >= math.log(1 / alpha)) < alpha


def near_tie(draw, **kwargs) -> np.ndarray:
    x = draw(size=(IMAGES, DRAWS), **kwargs)
    return x - x.mean(1, keepdims=True)


def populations() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    by_level = np.logspace(-2, 0, DRAWS)
    return {
        "Gaussian": near_tie(rng.normal),
        "Laplace": near_tie(rng.laplace),
        "t3": near_tie(rng.standard_t, df=3),
        "two points": np.tile([1.0, -1.0], (IMAGES, DRAWS // 2)),
        "noise by level": near_tie(lambda size: rng.normal(size=size) * by_level),
        "scale by image": near_tie(rng.normal) * rng.lognormal(0, 3, size=(IMAGES, 1)),
    }


@pytest.mark.parametrize("name", populations())
def test_unbounded_ties_are_seldom_wrong_at_any_look(name):
    e = largest(log_e_unbounded, shuffle(populations()[name]))
    for alpha in ALPHAS:
        assert upper_rate(e >= math.log(1 / alpha)) < alpha


@pytest.mark.parametrize("name", populations())
def test_unbounded_has_expectation_at_most_one_at_fixed_times(name):
    x = shuffle(populations()[name])
    for made in (9, 12, 20, 39):
        e = log_e_unbounded(x[:, :made], DRAWS).exp()
        # Expectations of heavy-tailed values: 4 standard errors above 1 would be too much.
        assert e.mean() < 1 + 4 * e.std() / IMAGES**0.5


SKEWED = {
    "exponential": lambda rng: rng.exponential(size=(IMAGES, DRAWS)),
    "gamma": lambda rng: rng.gamma(0.7, size=(IMAGES, DRAWS)),
    "log-normal": lambda rng: rng.lognormal(0, 0.7, size=(IMAGES, DRAWS)),
}


@pytest.mark.parametrize("name", SKEWED)
def test_unbounded_ties_of_skewed_differences_are_covered(name):
    # A leader that mostly wins by little and rarely loses by much.
    x = SKEWED[name](np.random.default_rng(0))
    e = largest(log_e_unbounded, shuffle(-(x - x.mean(1, keepdims=True))))
    for alpha in ALPHAS:
        assert upper_rate(e >= math.log(1 / alpha)) < alpha


def test_unbounded_ties_by_one_draw_are_not_covered():
    # The assumption is needed, and no test could do without: thirty-nine draws say yes, and the last undoes them all.
    rng = np.random.default_rng(0)
    x = 1 + 0.1 * rng.normal(size=(IMAGES, DRAWS))
    x[:, 0] -= x.sum(1)
    e = largest(log_e_unbounded, shuffle(x))
    assert (e >= math.log(100)).double().mean() > 0.5


def scatter_held(x: torch.Tensor) -> torch.Tensor:
    """Whether the draws to come scatter at most twice as widely as those before, for each number of those [M, N]."""
    held = [torch.ones(len(x), dtype=torch.bool)] * 2
    for made in range(2, x.shape[1]):
        before, after = x[:, :made].var(1), x[:, made:].var(1, correction=0)
        held.append(after <= 4 * before + 1e-12)
    return torch.stack(held, 1)


@pytest.mark.parametrize(
    "population",
    [
        [1, 1, 1, 1, -1, -1, -1, -1],
        [3, -1, -1, -1, 3, -1, -1, -1],
        [-3, 1, 1, 1, -3, 1, 1, 1],
        [-7, 1, 1, 1, 1, 1, 1, 1],
        [0.1, 2, -0.3, 0.5, -1, 0.7, -1.5, -0.5],
        [2, 1, 0, -1, -2, -2, -2, -2],  # below a tie
    ],
    ids=str,
)
def test_unbounded_has_expectation_at_most_one_until_the_assumption_fails(population, monkeypatch):
    monkeypatch.setattr(e_process, "BURN_IN", 3)  # eight draws can be enumerated
    x = torch.tensor(list(permutations(population))).double()
    held = scatter_held(x)
    stopped = torch.zeros(len(x), dtype=torch.float64)
    for made in range(3, len(population)):
        # Draw number made + 1 counts only where those before it said enough of the scatter.
        going = held[:, : made + 1].all(1)
        step = log_e_unbounded(x[:, : made + 1], len(population))
        stopped = torch.where(going, step, stopped)
        assert stopped.exp().mean() <= 1 + 1e-9, made
    assert held.all(1).any()


def test_the_inequality_behind_it():
    # exp(y - y^2 / 6 - v / 3) of any y with a mean of at most 0 and variance v: all distributions on two points.
    mean, spread, odds = np.meshgrid(-np.logspace(-4, 2, 60), np.logspace(-3, 2, 80), np.logspace(-4, 4, 81))
    p = odds / (1 + odds)
    high, low = mean + spread * np.sqrt((1 - p) / p), mean - spread * np.sqrt(p / (1 - p))
    value = [np.exp(y - y**2 / 6 - spread**2 / 3) for y in (high, low)]
    assert (p * value[0] + (1 - p) * value[1]).max() <= 1


@pytest.mark.parametrize("process", [log_e_betting, log_e_unbounded])
def test_evidence_grows_with_the_lead(process):
    generator = torch.Generator().manual_seed(0)
    noise = (torch.rand(500, 60, generator=generator).double() - 0.5).clamp(-0.5, 0.5)
    means = [process(noise + lead, 200).mean().item() for lead in (-0.3, 0.0, 0.1, 0.3, 0.5)]
    assert means == sorted(means)
    assert means[0] < 0
    assert means[-1] > math.log(100)


def test_unbounded_does_not_depend_on_the_unit():
    x = torch.randn(50, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3
    for unit in (1e-6, 1e6):
        torch.testing.assert_close(log_e_unbounded(unit * x, 90), log_e_unbounded(x, 90))


def test_unbounded_against_quadrature():
    # A mixture over half-normal d of exp(d drift - d^2 variance / 2), by brute force.
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.4
    got = log_e_unbounded(x, 30)
    for row, log_e in zip(x.numpy(), got.tolist(), strict=True):
        before, drift, variance = 0.0, 0.0, 0.0
        scale = math.sqrt(np.square(row[:8]).mean())
        for i, value in enumerate(row):
            gain = 30 / (30 - i - 1) / scale
            y = value + before / (30 - i)
            if i >= 8:
                drift += gain * y
                variance += gain**2 * (y * y + 8 * row[:i].var(ddof=1)) / 3
            before += value
        d = np.linspace(0, 20, 200_001)
        parts = [
            np.trapezoid(2 * stats.norm.pdf(d, scale=s) * np.exp(d * drift - d**2 * variance / 2), d)
            for s in (0.2, 0.6, 1.8)
        ]
        assert log_e == pytest.approx(math.log(np.mean(parts)), abs=1e-5)


def test_certainty():
    x = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]]).double()
    assert log_e_betting(x, 7).isinf().tolist() == [True, False], "4 of 7 cannot be caught, 3 with 3 to come can"
    losing = torch.tensor([[1.0, 1, -1, -1], [0, 0, 0, 0]]).double()
    assert torch.isfinite(log_e_betting(losing, 4)).all()
    assert log_e_unbounded(torch.ones(2, 8, dtype=torch.float64), 10).tolist() == [0, 0], "these set the scale"


def test_equal_classes_are_no_evidence():
    x = torch.zeros(3, 9, dtype=torch.float64)
    x[1, 6], x[2, 7] = 1e-3, -1e-3
    assert (log_e_unbounded(x, 10) < math.log(5)).all(), "also where the first draws are equal"
    assert (log_e_betting(x, 10) < math.log(5)).all()


def test_the_old_name_says_where_it_is():
    from monai_diffclf import classification

    with pytest.warns(DeprecationWarning, match="log_e_symmetric is now .*log_e_unbounded"):
        assert classification.log_e_symmetric is log_e_unbounded
