"""How the cost of a classification grows: with batch size, image size, threads, processes and draws.

Used by ``benchmarks/speed/side_by_side.py``; numbers of classes are in ``benchmarks/fewer_draws/mixture.py``.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest

from benchmarks.bundles import BUNDLES
from benchmarks.speed.inferer_overhead import seconds
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import (
    CurtailedVote,
    DenoisingErrors,
    DifferenceModel,
    PredictiveCurtailment,
    SequentialTest,
    StagedElimination,
    StoppingRule,
    VoteModel,
    classify_errors,
    replay,
)
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.storage import load_errors

ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FIXED_DRAWS = (5, 11, 25, 51, 101, 251)
Models = Mapping[str, VoteModel | DifferenceModel | None]


def share(count: int, total: int) -> dict[str, float | int]:
    """A rate with its exact 95 % interval (Clopper and Pearson 1934)."""
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    low, high = float(interval.low), float(interval.high)
    return {"count": count, "of": total, "value": count / total, "low": low, "high": high}


def make_network(config: Bundle | None = None) -> torch.nn.Module:
    """The pneumonia bundle's network without its weights: they do not change its speed."""
    if config is None:
        config = open_bundle(BUNDLES / "pneumonia_xray_diffusion", "train.json")
    torch.manual_seed(0)
    network: torch.nn.Module = config.get("denoiser").eval()
    return network


def make_pair(
    network: torch.nn.Module, scheduler: Any, *, evaluations: int, batch_size: int, image_size: int = 32
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Bare network calls, and `compute_errors` of as many evaluations at the same batch size."""
    device = next(network.parameters()).device
    images = torch.rand(4, 1, image_size, image_size, device=device) * 2 - 1
    noisy = torch.randn(evaluations, 1, image_size, image_size, device=device)
    timesteps = torch.randint(0, 1000, (evaluations,), device=device)
    labels = torch.arange(evaluations, device=device) % 2
    inferer = DiffusionClassifierInferer(scheduler, num_classes=2, num_draws=evaluations // 8, batch_size=batch_size)

    @torch.inference_mode()
    def bare() -> None:
        for rows in torch.arange(evaluations, device=device).split(batch_size):
            network(x=noisy[rows], timesteps=timesteps[rows], class_labels=labels[rows])

    return bare, lambda: inferer.compute_errors(images, network)


def fastest(
    functions: Sequence[Callable[[], object]], device: torch.device, *, repeats: int, evaluations: int
) -> list[float]:
    """Milliseconds an evaluation of each function, the least of some repeats taken in turns."""
    times = [[seconds(function, device) for function in functions] for _ in range(repeats)]
    return [1000 * min(column) / evaluations for column in zip(*times, strict=True)]


def batch_sizes(
    network: torch.nn.Module, scheduler: Any, sizes: Sequence[int], *, evaluations: int = 256, repeats: int = 2
) -> list[dict[str, float]]:
    """Milliseconds an evaluation against the batch size, of the bare network and of `compute_errors`."""
    rows = []
    for size in sizes:
        total = max(evaluations, size) // 8 * 8
        pair = make_pair(network, scheduler, evaluations=total, batch_size=size)
        times = fastest(pair, next(network.parameters()).device, repeats=repeats, evaluations=total)
        rows.append({"batch_size": size, "bare_ms": times[0], "compute_errors_ms": times[1]})
    return rows


def against_bare(
    network: torch.nn.Module, scheduler: Any, best: int, *, evaluations: int = 512, repeats: int = 7, default: int = 256
) -> dict[str, Any]:
    """Time of `compute_errors` over that of the bare network at its best batch size: at that size, and at ours."""
    device = next(network.parameters()).device
    total = max(evaluations, 8)
    bare, ours = make_pair(network, scheduler, evaluations=total, batch_size=best)
    standard = make_pair(network, scheduler, evaluations=total, batch_size=default)[1]
    times = [[seconds(function, device) for function in (bare, ours, standard)] for _ in range(repeats)]
    ratios = {
        name: [row[column] / row[0] for row in times] for name, column in (("same_batch", 1), ("default_batch", 2))
    }
    return {
        "best_batch_size": best,
        "default_batch_size": default,
        **{f"ratio_{name}": statistics.median(values) for name, values in ratios.items()},
        **{f"each_{name}": [round(value, 4) for value in values] for name, values in ratios.items()},
    }


def image_sizes(
    scheduler: Any, sizes: Sequence[int], *, evaluations: int = 64, repeats: int = 2
) -> list[dict[str, float]]:
    """Milliseconds an evaluation against the image size in pixels; batches of 16 evaluations."""
    network, rows = make_network(), []
    for size in sizes:
        pair = make_pair(network, scheduler, evaluations=evaluations, batch_size=16, image_size=size)
        times = fastest(pair, torch.device("cpu"), repeats=repeats, evaluations=evaluations)
        rows.append({"pixels": size, "bare_ms": times[0], "compute_errors_ms": times[1]})
    return rows


def threads(
    scheduler: Any, counts: Sequence[int], *, evaluations: int = 256, repeats: int = 2
) -> list[dict[str, float]]:
    """Milliseconds an evaluation of `compute_errors` against the number of threads of one process."""
    network, before, rows = make_network(), torch.get_num_threads(), []
    ours = make_pair(network, scheduler, evaluations=evaluations, batch_size=256)[1]
    for count in counts:
        torch.set_num_threads(count)
        time_each = fastest([ours], torch.device("cpu"), repeats=repeats, evaluations=evaluations)[0]
        rows.append({"threads": count, "compute_errors_ms": time_each})
    torch.set_num_threads(before)
    return rows


def _work(barrier: Barrier, images: int, draws: int) -> None:
    """One process: make everything ready, wait for the others, classify."""
    torch.set_num_threads(1)
    config = open_bundle(BUNDLES / "pneumonia_xray_diffusion", "train.json")
    network = make_network(config)
    inferer = DiffusionClassifierInferer(config.get("scheduler"), num_draws=draws)
    part = torch.rand(images, 1, 32, 32)
    inferer.compute_errors(part[:1], network)
    barrier.wait()
    inferer.compute_errors(part, network)
    barrier.wait()


def processes(counts: Sequence[int], *, images: int = 16, draws: int = 32) -> list[dict[str, float]]:
    """Wall time of the same images shared out between processes of one thread each, without their start."""
    context, rows = multiprocessing.get_context("spawn"), []
    for count in counts:
        barrier = context.Barrier(count + 1)
        started = [context.Process(target=_work, args=(barrier, images // count, draws)) for _ in range(count)]
        for process in started:
            process.start()
        barrier.wait(timeout=300)
        start = time.perf_counter()
        barrier.wait(timeout=300)
        rows.append({"processes": count, "seconds": time.perf_counter() - start, "images": images, "draws": draws})
        for process in started:
            process.join()
    return rows


def curves(
    models: Models, num_draws: int, alphas: Sequence[float] = ALPHAS
) -> dict[str, list[tuple[float, StoppingRule]]]:
    """Rules at several settings: {name: [(alpha or draws, rule)]}; "{rule}" stands for the rule of decision."""
    found: dict[str, list[tuple[float, StoppingRule]]] = {
        "curtailed_vote": [(0.0, CurtailedVote())],
        "sequential_vote": [(a, SequentialTest(a)) for a in alphas],
        "sequential_mean": [(a, SequentialTest(a)) for a in alphas],
    }
    for rule in ("vote", "mean"):
        found[f"predictive_{rule}"] = [(a, PredictiveCurtailment(a, models[rule])) for a in alphas]
        fixed = [n for n in FIXED_DRAWS if n < num_draws]
        found[f"fixed_{rule}"] = [(n, StagedElimination((n,), (1,))) for n in fixed]
    return found


def replay_curves(
    errors: DenoisingErrors, labels: torch.Tensor, models: Models, alphas: Sequence[float] = ALPHAS
) -> list[dict[str, Any]]:
    """Evaluations, agreement with the class of all draws and accuracy of all rules at several settings."""
    full = {rule: classify_errors(errors, rule).predicted for rule in ("vote", "mean")}
    known = labels >= 0
    rows: list[dict[str, Any]] = []
    for rule, predicted in full.items():
        spent = float(errors.network_evaluations.double().mean())
        rows.append({"curve": f"all_{rule}", "setting": errors.num_draws, "evaluations": spent})
        rows[-1] |= _quality(predicted, predicted, labels, known)
    for name, settings in curves(models, errors.num_draws, alphas).items():
        rule = name.rsplit("_", 1)[1]
        for setting, stopping in settings:
            result = replay(errors, stopping, rule=rule)
            spent = float(result.network_evaluations.double().mean())
            rows.append({"curve": name, "setting": setting, "evaluations": spent})
            rows[-1] |= _quality(result.predicted, full[rule], labels, known)
    return rows


def _quality(predicted: torch.Tensor, full: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> dict[str, Any]:
    right = int((predicted == labels)[known].sum())
    return {"agreement": share(int((predicted == full).sum()), len(full)), "accuracy": share(right, int(known.sum()))}


def stored_errors(path: Path, models: Models, draws: Sequence[int] = (51, 101, 251, 501)) -> dict[str, Any] | None:
    """Replays of stored errors: curves over alpha, and cost at alpha 0.01 against the number of all draws.

    None where there is no such file.
    """
    if not path.is_file():
        return None
    stored = load_errors(path)
    made = [n for n in draws if n <= stored.errors.num_draws]
    by_draws = []
    for n in made:
        for row in replay_curves(stored.errors.first(n), stored.labels, models, alphas=(0.01,)):
            if not row["curve"].startswith("fixed"):
                by_draws.append({"num_draws": n, **row})
    return {
        "file": path.name,
        "images": len(stored.labels),
        "num_draws": stored.errors.num_draws,
        "curves": replay_curves(stored.errors, stored.labels, models),
        "by_draws": by_draws,
    }
