# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Batch size, memory format and number of threads, chosen by measurement."""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from .._checks import check_eval_mode
from .._text import out_of_memory
from .conditioning import Conditioning, make_conditioning
from .fast_inference import FastNetwork

__all__ = ["Trial", "Tuning", "tune_batch"]

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
# A larger batch has to be faster by more than the noise of a short measurement: it costs memory.
TOLERANCE = 0.03


class Trial(NamedTuple):
    """What was measured at one setting: median of the network evaluations a second, over some calls."""

    batch_size: int
    channels_last: bool
    num_threads: int
    evaluations_per_second: float
    calls: int


@dataclass(frozen=True)
class Tuning:
    """The fastest setting found, and everything that was measured.

    Attributes:
        batch_size: network evaluations in one call, the inferer's ``batch_size``.
        channels_last: whether the network's weights are best stored with the channels last.
        num_threads: threads, for `torch.set_num_threads`.
        evaluations_per_second: network evaluations a second at this setting.
        table: all settings measured.
    """

    batch_size: int
    channels_last: bool
    num_threads: int
    evaluations_per_second: float
    table: tuple[Trial, ...]

    def apply(self, network: nn.Module) -> nn.Module:
        """Set this process's number of threads and the memory format of the network in place; return the network."""
        torch.set_num_threads(self.num_threads)
        return _to_format(network, self.channels_last)


def tune_batch(
    network: nn.Module,
    shape: Sequence[int],
    *,
    conditioning: str | Conditioning | None = "class_labels",
    num_classes: int = 2,
    device: torch.device | str | None = None,
    batch_sizes: Sequence[int] = (8, 16, 32, 64, 128, 256),
    memory_formats: Sequence[torch.memory_format] = MEMORY_FORMATS,
    threads: Sequence[int] | None = None,
    seconds: float = 5.0,
) -> Tuning:
    """Measure how fast a network is at several settings, and choose the fastest.

    First memory formats and numbers of threads are compared in turns at the second smallest batch size, then the batch
    sizes at the best of those, from small to large as far as the time goes. Of batch sizes within 3 % of the fastest
    the smallest is chosen. Nothing is changed: neither the network, of which a copy is measured, nor the number of
    threads; :meth:`Tuning.apply` does that.

    Args:
        network: the network in eval mode. One of :func:`monai_diffclf.networks.fast_inference` keeps its memory format.
        shape: shape of one image, [C, H, W] or [C, H, W, D], or of its tokens, [C, T].
        conditioning: how a class reaches the network, see :mod:`monai_diffclf.networks.conditioning`; None for not.
        num_classes: number of classes K.
        device: where to measure; None for where the network is.
        batch_sizes: batch sizes to try.
        memory_formats: `torch.contiguous_format`, `torch.channels_last` or both; in 3D the latter stands for
            `torch.channels_last_3d`.
        threads: numbers of threads to try; None for powers of two up to the number of processors, on a GPU for the
            present one.
        seconds: about how long to measure; each of the first comparisons and the smallest batch is measured in any
            case.

    Raises:
        TypeError: when ``network`` is no `nn.Module`.
        ValueError: when it is in training mode, or another argument is out of range.

    Example:
        >>> from monai_diffclf.networks.nets import WaveletDiffusionUNet
        >>> network = WaveletDiffusionUNet(2, 1, channels=(8, 8), attention_levels=(False, False), num_res_blocks=1,
        ...     norm_num_groups=4, num_head_channels=8, num_class_embeds=3).eval()
        >>> tuning = tune_batch(network, [1, 16, 16], batch_sizes=(2, 4), threads=[1], seconds=0.1)
        >>> tuning.batch_size in (2, 4), tuning.num_threads
        (True, 1)
    """
    _check(network, shape, memory_formats, seconds)
    batch_sizes = sorted(_positive("batch_sizes", batch_sizes))
    conditions = (lambda labels: {}) if conditioning is None else make_conditioning(conditioning, num_classes)
    own = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    target = own if device is None else torch.device(device)
    threads = _thread_counts(target) if threads is None else sorted(_positive("threads", threads))
    networks: dict[bool, nn.Module]
    if isinstance(network, FastNetwork) and target.type == own.type:
        networks = {True: network}  # a copy would lose what torch.compile made
    else:
        formats = sorted({item == torch.channels_last for item in memory_formats})
        networks = {last: _to_format(copy.deepcopy(network).to(target), last) for last in formats}

    def call(batch_size: int, channels_last: bool, num_threads: int) -> Callable[[], float]:
        x = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(0)).to(target)
        steps = torch.zeros(batch_size, dtype=torch.long, device=target)
        arguments = conditions(steps)

        def run() -> float:
            torch.set_num_threads(num_threads)
            _synchronize(target)
            start = time.perf_counter()
            networks[channels_last](x=x, timesteps=steps, **arguments)
            _synchronize(target)
            return time.perf_counter() - start

        return run

    def measure(settings: Iterable[tuple[int, bool, int]], limit: float) -> list[Trial]:
        return _measure({setting: call(*setting) for setting in settings}, limit)

    middle = batch_sizes[min(1, len(batch_sizes) - 1)]
    with _restored_threads(), torch.inference_mode():
        deadline = time.perf_counter() + seconds
        table = measure(itertools.product([middle], networks, threads), seconds / 2)
        best = max(table, key=lambda trial: trial.evaluations_per_second)
        sizes: list[Trial] = []
        for count, size in enumerate(batch_sizes):
            left = deadline - time.perf_counter()
            # Two calls, one of them to warm up, have to fit.
            if sizes and 2 * size / sizes[-1].evaluations_per_second > left:
                break
            try:
                sizes += measure([(size, *best[1:3])], left / (len(batch_sizes) - count))
            except RuntimeError as error:
                if not sizes or not out_of_memory(error):
                    raise
                break
    measured = {trial.batch_size: trial for trial in (best, *sizes)}
    return Tuning(*choose([measured[size] for size in sorted(measured)])[:4], table=(*table, *sizes))


def choose(trials: Sequence[Trial]) -> Trial:
    """The first trial that is about as fast as the fastest: of batch sizes in ascending order the smallest."""
    fastest = max(trial.evaluations_per_second for trial in trials)
    return next(trial for trial in trials if trial.evaluations_per_second >= (1 - TOLERANCE) * fastest)


def _measure(calls: dict[tuple[int, bool, int], Callable[[], float]], limit: float) -> list[Trial]:
    """Time the calls in turns, at least once each after one to warm up, for ``limit`` seconds."""
    start = time.perf_counter()
    for run in calls.values():
        run()
    times: dict[tuple[int, bool, int], list[float]] = {setting: [] for setting in calls}
    while True:
        for setting, run in calls.items():
            times[setting].append(run())
        rounds = len(next(iter(times.values())))
        # Another round has to fit; the first calls count as one.
        if (time.perf_counter() - start) * (rounds + 2) / (rounds + 1) > limit:
            break
    return [
        Trial(*setting, evaluations_per_second=setting[0] / statistics.median(taken), calls=len(taken))
        for setting, taken in times.items()
    ]


@contextmanager
def _restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _thread_counts(device: torch.device) -> list[int]:
    if device.type != "cpu":
        return [torch.get_num_threads()]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({*(2**power for power in range(processors.bit_length()) if 2**power <= processors), processors})


def _to_format(network: nn.Module, channels_last: bool) -> nn.Module:
    """Store the weights of convolutions, [C, C', *kernel], in a memory format, in place."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            memory_format = formats[parameter.ndim] if channels_last else torch.contiguous_format
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return network


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _positive(name: str, values: Sequence[int]) -> list[int]:
    values = list(values)
    if not values or any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
        raise ValueError(f"{name}: expected at least one positive integer and nothing else, got {values}")
    return list(dict.fromkeys(values))


def _check(
    network: nn.Module, shape: Sequence[int], memory_formats: Sequence[torch.memory_format], seconds: float
) -> None:
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}")
    check_eval_mode(network)
    if len(_positive_shape(shape)) not in (2, 3, 4):
        raise ValueError(f"shape: expected that of one image, [C, H, W], [C, H, W, D] or [C, T], got {list(shape)}")
    if not memory_formats or any(item not in MEMORY_FORMATS for item in memory_formats):
        raise ValueError(
            f"memory_formats: expected torch.contiguous_format, torch.channels_last or both, got {list(memory_formats)}"
        )
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"seconds: expected a positive number, got {seconds!r}")


def _positive_shape(shape: Sequence[int]) -> list[int]:
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise ValueError(f"shape: expected positive integers, got {list(shape)}")
    return list(shape)
