# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Solvers of ordinary differential equations whose state is a tuple of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torchdiffeq import odeint

__all__ = ["SOLVERS", "denser_grid", "even_grid", "solve_adaptive", "solve_fixed", "solve_multistep"]

State = tuple[torch.Tensor, ...]
Derivative = Callable[[float, State], State]

ORDER = 4
"""Past slopes that the multistep solver extrapolates from."""

MAX_STEPS = 500
"""Steps after which the adaptive solver gives up; an image takes some 30 at tolerance 1e-5."""


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stage i is at ``nodes[i]`` with the earlier slopes weighted by ``stages[i]``."""

    nodes: Sequence[float]
    stages: Sequence[Sequence[float]]
    weights: Sequence[float]


TABLEAUS = {
    "heun": Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": Tableau((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Name of each fixed-step solver -> its tableau."""

SOLVERS = (*TABLEAUS, "multistep", "dopri5")
"""Names of all solvers; the last is adaptive (Dormand and Prince 1980, known as RK45)."""


def even_grid(start: float, stop: float, num_steps: int) -> list[float]:
    """Times of equal steps [num_steps + 1]."""
    return torch.linspace(start, stop, num_steps + 1, dtype=torch.float64).tolist()


def denser_grid(start: float, stop: float, num_steps: int, *, centre: float = 4.0, width: float = 6.0) -> list[float]:
    """Times whose steps grow with their distance from a centre [num_steps + 1]: evenly spaced in asinh((t - c) / w).

    In the log-SNR the probability flow of images turns most at about 4, where their detail drowns in noise.

    Example:
        >>> [round(t, 1) for t in denser_grid(14.0, -10.0, 4)]
        [14.0, 7.6, 3.1, -1.9, -10.0]
    """
    ends = [math.asinh((t - centre) / width) for t in (start, stop)]
    inner = [centre + width * math.sinh(t) for t in even_grid(ends[0], ends[1], num_steps)[1:-1]]
    return [start, *inner, stop]


def _advance(state: State, slopes: Sequence[State], factors: Sequence[float]) -> State:
    """state + sum of the slopes times their factors."""
    used = [(slope, factor) for slope, factor in zip(slopes, factors, strict=True) if factor]
    return tuple(part + sum(factor * slope[i] for slope, factor in used) for i, part in enumerate(state))


def solve_fixed(derivative: Derivative, state: State, times: Sequence[float], tableau: Tableau) -> State:
    """The state at the last of some times, with one step of a Runge-Kutta method from each to the next.

    Args:
        derivative: function (time, state) -> d state / d time.
        state: the state at the first time, float64.
        times: rising or falling times.
        tableau: the method.

    Example:
        >>> end = solve_fixed(lambda t, y: (-y[0],), (torch.ones(1).double(),), [0.0, 0.5, 1.0], TABLEAUS["rk4"])
        >>> round(float(end[0]), 3)
        0.368
    """
    for start, stop in pairwise(times):
        step, slopes = stop - start, list[State]()
        for node, factors in zip(tableau.nodes, tableau.stages, strict=True):
            stage = _advance(state, slopes, [step * factor for factor in factors])
            slopes.append(derivative(start + node * step, stage))
        state = _advance(state, slopes, [step * weight for weight in tableau.weights])
    return state


def solve_multistep(
    derivative: Derivative,
    state: tuple[torch.Tensor, torch.Tensor],
    times: Sequence[float],
    kernel: Callable[[np.ndarray], np.ndarray],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The state (u, integral) at the last of some times, with one evaluation a step.

    d u / dt = kernel(t) v(t, u), where v changes slowly: v is extrapolated from the last four times by a polynomial
    that is integrated against the kernel (an exponential Adams method), then corrected with v at the predicted point,
    which the next step starts from (predict, evaluate, correct; as in UniPC, Zhao et al. 2023). The slopes of the
    integral, which do not enter u's equation, are integrated at last by a cubic spline through all of them.

    Args:
        derivative: function (time, state) -> d state / d time.
        state: the state at the first time, float64; ``integral`` is added to and not read.
        times: rising or falling times, at least three steps.
        kernel: the part of d u / dt that is known, of an array of times; not 0 at ``times``.
    """
    at, (u, integral) = np.asarray(times, dtype=np.float64), state
    factors, past, slopes = kernel(at), list[torch.Tensor](), list[torch.Tensor]()

    def evaluate(index: int, point: torch.Tensor) -> None:
        slope, rate = derivative(float(at[index]), (point, integral))
        past.append(slope / float(factors[index]))
        slopes.append(rate)

    def step(index: int, first: int, last: int) -> torch.Tensor:
        """U moved from a time to the next with the polynomial through the slopes first to last - 1."""
        weights = _weights(at[first:last], at[index], at[index + 1], kernel)
        return u + sum(w * v for w, v in zip(weights, past[-(last - first) :], strict=True))

    evaluate(0, u)
    for index in range(len(at) - 1):
        evaluate(index + 1, step(index, max(0, index + 1 - ORDER), index + 1))
        u = step(index, max(0, index + 1 - ORDER), index + 2)
        del past[: -ORDER - 1]
    sign = 1 if at[-1] > at[0] else -1
    spline = CubicSpline(at[::sign], np.eye(len(at))[::sign])
    for weight, rate in zip((sign * spline.integrate(*np.sort(at[[0, -1]]))).tolist(), slopes, strict=True):
        integral = integral + weight * rate
    return u, integral


def _weights(nodes: np.ndarray, start: float, stop: float, kernel: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Integrals from start to stop of the kernel times each Lagrange polynomial of the nodes, by Gauss-Legendre."""
    points, measure = np.polynomial.legendre.leggauss(16)
    t = (start + stop) / 2 + (stop - start) / 2 * points
    measure = measure * (stop - start) / 2 * kernel(t)
    basis = [np.prod([(t - m) / (n - m) for m in nodes if m != n], axis=0) for n in nodes]
    return [float((measure * polynomial).sum()) for polynomial in basis]


def solve_adaptive(
    derivative: Derivative,
    state: State,
    start: float,
    stop: float,
    *,
    tolerance: float,
    norm: Callable[[State], torch.Tensor],
) -> State:
    """The state at ``stop``, by torchdiffeq's dopri5 with as many steps as the tolerance takes.

    Args:
        derivative: function (time, state) -> d state / d time.
        state: the state at ``start``, float64.
        start: first time.
        stop: last time.
        tolerance: absolute and relative tolerance of the error of a step, in the norm.
        norm: size of an error scaled by the tolerance; a step stands if it is at most 1.

    Raises:
        ValueError: when the tolerance cannot be met, or the derivative is not finite.
    """
    times = torch.tensor([start, stop], dtype=torch.float64, device=state[0].device)

    finite = True

    def followed(t: torch.Tensor, y: State) -> State:
        nonlocal finite
        slopes = derivative(float(t), y)
        # A trial step may overflow and is then made smaller; only if that does not help is the derivative to blame.
        finite = all(bool(torch.isfinite(slope).all()) for slope in slopes)
        return slopes

    # Steps end at the last time: beyond it there is no network to ask.
    options = {"norm": norm, "max_num_steps": MAX_STEPS, "step_t": times[1:]}
    try:
        path = odeint(
            followed,
            state,
            times,
            rtol=tolerance,
            atol=tolerance,
            method="dopri5",
            options=options,
        )
    except AssertionError as error:  # torchdiffeq's way to say that steps became too small, too many or not finite
        if not finite:
            raise ValueError("network: expected finite predictions, got NaN or infinity") from error
        raise ValueError(
            f"tolerance: expected one that the solver can meet, got {tolerance:g}: {error}; a network in float32 bears "
            "about 1e-6, so raise the tolerance, or take solver='rk4' with num_steps"
        ) from error
    return tuple(part[-1] for part in path)
