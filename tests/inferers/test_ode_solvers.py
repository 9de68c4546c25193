"""The solvers on equations whose solutions are known, and against SciPy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from monai_diffclf.inferers.ode_solvers import (
    SOLVERS,
    TABLEAUS,
    denser_grid,
    even_grid,
    solve_adaptive,
    solve_fixed,
    solve_multistep,
)

FIXED = {"heun": 2, "rk4": 4}


def pendulum(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """A driven pendulum: two parts of different shapes, with t in it."""
    angle, speed = state
    return speed[:, 0], (-torch.sin(angle) + 0.3 * math.cos(2 * t))[:, None]


START = (torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64), torch.tensor([[0.0], [0.5], [-1.0]], dtype=torch.float64))


def scipy_pendulum(start: float, stop: float) -> np.ndarray:
    """[angles, speeds] at the end, to 1e-11."""
    end = solve_ivp(
        lambda t, y: np.concatenate([y[3:], -np.sin(y[:3]) + 0.3 * np.cos(2 * t)]),
        (start, stop),
        np.concatenate([part.numpy().ravel() for part in START]),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    return end.y[:, -1]


def rms(error: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([part.flatten() for part in error]).square().mean().sqrt()


def flat(state: tuple[torch.Tensor, ...]) -> np.ndarray:
    return np.concatenate([part.cpu().numpy().ravel() for part in state])


@pytest.mark.parametrize(("start", "stop"), [(0.0, 5.0), (5.0, -1.0)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("solver", FIXED)
def test_fixed_steps_converge_with_their_order(solver, start, stop, device):
    expected, error = scipy_pendulum(start, stop), []
    state = tuple(part.to(device) for part in START)
    for steps in (80, 160, 320):
        times = np.linspace(start, stop, steps + 1).tolist()
        error.append(np.abs(flat(solve_fixed(pendulum, state, times, TABLEAUS[solver])) - expected).max())
    for coarse, fine in pairwise(error):
        assert math.log2(coarse / fine) == pytest.approx(FIXED[solver], abs=0.3)
    assert error[-1] < {"heun": 1e-3, "rk4": 1e-6}[solver]


@pytest.mark.parametrize("solver", FIXED)
def test_a_step_is_the_methods_polynomial(solver):
    """On y' = y one step is the Taylor series of exp(h) up to the order, exactly."""
    h = 0.7
    (end,) = solve_fixed(lambda t, y: (y[0],), (torch.ones(1, dtype=torch.float64),), [0.0, h], TABLEAUS[solver])
    assert float(end) == pytest.approx(sum(h**n / math.factorial(n) for n in range(FIXED[solver] + 1)), rel=1e-14)


@pytest.mark.parametrize(("solver", "degree"), [("heun", 1), ("rk4", 3)])
def test_polynomials_are_integrated_exactly(solver, degree):
    """The trapezoid's and Simpson's rule, over uneven steps."""
    (end,) = solve_fixed(
        lambda t, y: (torch.full((1,), t**degree, dtype=torch.float64),),
        (torch.zeros(1, dtype=torch.float64),),
        [0.0, 0.3, 1.0, 1.5],
        TABLEAUS[solver],
    )
    assert float(end) == pytest.approx(1.5 ** (degree + 1) / (degree + 1), rel=1e-14)


@pytest.mark.parametrize("solver", FIXED)
def test_evaluations_and_times(solver):
    """As many as the method has stages, none outside the interval, and no state is changed in place."""
    seen = []

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(t)
        return (state[0],)

    start = torch.ones(2, dtype=torch.float64)
    solve_fixed(derivative, (start,), [3.0, 2.0, 0.0], TABLEAUS[solver])
    assert len(seen) == 2 * len(TABLEAUS[solver].nodes)
    assert min(seen) == 0.0
    assert max(seen) == 3.0
    assert torch.equal(start, torch.ones(2, dtype=torch.float64))


def test_no_step_is_no_change():
    state = (torch.ones(2, dtype=torch.float64),)
    assert torch.equal(solve_fixed(pendulum, state, [1.0], TABLEAUS["rk4"])[0], state[0])


# The multistep solver


def kernel(t: np.ndarray) -> np.ndarray:
    """That of the probability flow: -alpha sigma / 2 of the log-SNR t."""
    return -0.25 / np.cosh(0.5 * np.asarray(t))


@pytest.mark.parametrize(("start", "stop"), [(8.0, -6.0), (-6.0, 8.0)], ids=["falling", "rising"])
def test_multistep_is_exact_for_a_constant(start, stop):
    """However the kernel moves: it is integrated, not extrapolated. Its integral is -arctan(sinh(t / 2)) / 2."""
    state = (torch.ones(3, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64))

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((3,), 2.0 * float(kernel(t)), dtype=torch.float64), torch.full(
            (3, 2), t**3, dtype=torch.float64
        )

    u, integral = solve_multistep(derivative, state, denser_grid(start, stop, 8), kernel)
    expected = 1 - math.atan(math.sinh(stop / 2)) + math.atan(math.sinh(start / 2))
    # 16 nodes of Gauss-Legendre over steps of 2 of a function with a pole at i pi.
    torch.testing.assert_close(u, torch.full((3,), expected, dtype=torch.float64), rtol=1e-8, atol=0)
    # A cubic spline integrates cubics exactly.
    torch.testing.assert_close(
        integral, torch.full((3, 2), (stop**4 - start**4) / 4, dtype=torch.float64), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("grid", [even_grid, denser_grid])
def test_multistep_converges(grid):
    """u' = kernel(t) v(t, u), with v of both, and the integral of another function of u: against SciPy."""

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        u = state[0]
        return float(kernel(t)) * (torch.sin(u) + u + math.cos(0.3 * t)), (0.1 * u.square())[:, None]

    def plain(t: float, y: np.ndarray) -> np.ndarray:
        u = y[:2]
        return np.concatenate([kernel(t) * (np.sin(u) + u + np.cos(0.3 * t)), 0.1 * u**2])

    expected = solve_ivp(plain, (10.0, -8.0), [0.5, -1.0, 0.0, 0.0], method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    error = []
    for steps in (40, 80, 160):
        state = (torch.tensor([0.5, -1.0], dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64))
        error.append(np.abs(flat(solve_multistep(derivative, state, grid(10.0, -8.0, steps), kernel)) - expected).max())
    # Of fourth order, but for the first steps, which have no past and are where hardly anything happens.
    assert all(coarse / fine > 12 for coarse, fine in pairwise(error))
    assert error[-1] < 1e-5


def test_multistep_takes_one_evaluation_a_step():
    seen = []

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(t)
        return state

    state = (torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    times = denser_grid(5.0, -3.0, 7)
    solve_multistep(derivative, state, times, kernel)
    assert seen == times
    assert torch.equal(state[0], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(("start", "stop"), [(14.0, -10.0), (-7.8, 9.2)])
def test_grids(start, stop):
    for grid in (even_grid, denser_grid):
        times = np.array(grid(start, stop, 12))
        assert len(times) == 13
        assert (times[0], times[-1]) == (start, stop)
        assert (np.diff(times) * np.sign(stop - start) > 0).all()
    steps = np.abs(np.diff(denser_grid(start, stop, 40)))
    middle = (np.array(denser_grid(start, stop, 40))[1:] + np.array(denser_grid(start, stop, 40))[:-1]) / 2
    assert abs(middle[steps.argmin()] - 4) < 1, "densest at a log-SNR of 4"


def test_names():
    assert SOLVERS == ("heun", "rk4", "multistep", "dopri5")


# The adaptive solver


@pytest.mark.parametrize(("start", "stop"), [(0.0, 5.0), (5.0, -1.0)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_adaptive_steps_against_scipy(tolerance, start, stop, device):
    state = tuple(part.to(device) for part in START)
    end = solve_adaptive(pendulum, state, start, stop, tolerance=tolerance, norm=rms)
    assert [part.shape for part in end] == [part.shape for part in START]
    # 10 to 60 steps, each within the tolerance of states of the size of 1 to 10.
    assert np.abs(flat(end) - scipy_pendulum(start, stop)).max() < 100 * tolerance


def count_steps(tolerance: float, norm=rms) -> int:
    calls = []

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        calls.append(t)
        return pendulum(t, state)

    solve_adaptive(derivative, START, 0.0, 5.0, tolerance=tolerance, norm=norm)
    return len(calls)


def test_a_smaller_tolerance_and_a_larger_norm_take_more_steps():
    assert count_steps(1e-3) < count_steps(1e-6) < count_steps(1e-9)
    # The norm sets the steps: a hundred times the error is a hundredth of the tolerance.
    assert count_steps(1e-6, lambda error: 100 * rms(error)) > count_steps(1e-6)


def test_the_adaptive_solver_stays_within_the_interval():
    """Beyond it the likelihood's derivative is another one: there is no network for times above 1."""
    seen = []

    def derivative(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(t)
        return pendulum(t, state)

    solve_adaptive(derivative, START, 5.0, 0.0, tolerance=1e-5, norm=rms)
    assert max(seen) <= 5.0
    assert min(seen) >= 0.0


def test_tolerance_that_cannot_be_met(monkeypatch):
    def noisy(t: float, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (state[0].float().double() + 1e-7 * math.sin(1e9 * t),)

    monkeypatch.setattr("monai_diffclf.inferers.ode_solvers.MAX_STEPS", 100)
    with pytest.raises(ValueError, match="tolerance: expected one that the solver can meet, got 1e-14: .*solver='rk4'"):
        solve_adaptive(noisy, (torch.ones(3, dtype=torch.float64),), 0.0, 5.0, tolerance=1e-14, norm=rms)


def test_too_many_steps(monkeypatch):
    monkeypatch.setattr("monai_diffclf.inferers.ode_solvers.MAX_STEPS", 3)
    with pytest.raises(ValueError, match=r"tolerance: expected one .*, got 1e-08: max_num_steps exceeded \(3>=3\)"):
        solve_adaptive(pendulum, START, 0.0, 5.0, tolerance=1e-8, norm=rms)


def test_a_derivative_that_is_not_finite():
    with pytest.raises(ValueError, match="network: expected finite predictions, got NaN or infinity"):
        solve_adaptive(
            lambda t, y: (torch.full_like(y[0], math.nan),),
            (torch.ones(1, dtype=torch.float64),),
            0.0,
            1.0,
            tolerance=1e-3,
            norm=rms,
        )
