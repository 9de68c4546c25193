"""Published methods and ours on the same network and images, in one run, as ratios; and how the cost grows.

    python -m benchmarks.speed.side_by_side --data DATA [--images 40] [--draws 501] [--output FILE]
    python -m benchmarks.speed.side_by_side --data DATA --quick    # a smoke test of seconds: its numbers mean nothing

DATA is the folder of pneumoniamnist.npz. Network, weights and images are those of the pneumonia bundle, the images a
random sample of its test set. All methods classify one block of images after the other, in turns, each block in another
order, so that a change of the machine's speed meets all of them. See ``benchmarks/speed/reference_methods.py`` for the
methods compared with. ``python -m benchmarks.page.make_page`` makes the page ``docs/benchmark.html`` from the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.fewer_draws.mixture import grow_classes
from benchmarks.speed import scaling
from benchmarks.speed.reference_methods import Outcome, li_method, reference_loop
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import (
    CurtailedVote,
    PredictiveCurtailment,
    SequentialTest,
    StoppingRule,
    classify_errors,
)
from monai_diffclf.data import load_datalist
from monai_diffclf.fitting.stopping_rules import stage_rule
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import load_weights, network_hash
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.storage import load_decision
from monai_diffclf.storage.atomic_file import replace_text

BUNDLE = BUNDLES / "pneumonia_xray_diffusion"
OUTPUT = RESULTS / "speed.json"
ALPHA, SHORT = 0.01, 51

Run = Callable[[torch.Tensor], Outcome]


@dataclass
class Method:
    """A method, and what its runs have given so far; ``scale`` turns its cost into that of all draws."""

    name: str
    label: str
    run: Run
    scale: float = 1.0
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def predicted(self) -> dict[str, torch.Tensor]:
        """Predicted classes of all images under each rule."""
        return {rule: torch.cat([o.predicted[rule] for o in self.outcomes]) for rule in self.outcomes[0].predicted}

    def evaluations(self) -> torch.Tensor:
        """Network evaluations of all images."""
        return torch.cat([outcome.evaluations for outcome in self.outcomes])


def read_bundle() -> tuple[Bundle, torch.nn.Module]:
    """The pneumonia bundle's configuration, and its network with weights."""
    config = open_bundle(BUNDLE, "train.json")
    network = load_weights(config.get("denoiser"), BUNDLE / "models" / "model.pt")
    return config, network


def sample_images(config: Bundle, data: Path, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random sample of test images [n, C, H, W] and their classes [n]."""
    items = load_datalist(data, "test", classes=config.classes)
    if not 1 <= count <= len(items):
        raise ValueError(f"--images: expected 1 to {len(items)}, got {count}")
    chosen = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    prepare = config.get("validate#preprocessing")
    images = torch.stack([torch.as_tensor(prepare(dict(items[i]))["image"]).float() for i in chosen])
    return images, torch.tensor([items[i]["label"] for i in chosen])


def read_models(notes: list[str]) -> scaling.Models:
    """The bundle's models for the predictive rule; None for those that know no network."""
    path = BUNDLE / "configs" / "decision.json"
    if path.is_file():
        return {rule: load_decision(path, rule).model for rule in ("vote", "mean")}
    notes.append(f"The bundle has no {path.name}: the predictive rule uses models that know no network.")
    return dict.fromkeys(("vote", "mean"))


def exact(network: torch.nn.Module, scheduler: Any, num_draws: int) -> Run:
    """Ours with all draws: both rules from the same errors."""
    inferer = DiffusionClassifierInferer(scheduler, num_draws=num_draws)

    def run(images: torch.Tensor) -> Outcome:
        errors = inferer.compute_errors(images, network)
        predicted = {rule: classify_errors(errors, rule).predicted for rule in ("vote", "mean")}
        return Outcome(predicted, errors.network_evaluations)

    return run


def stopped(network: torch.nn.Module, scheduler: Any, num_draws: int, rule: str, stopping: StoppingRule) -> Run:
    """Ours with a stopping rule."""
    inferer = DiffusionClassifierInferer(scheduler, num_draws=num_draws, rule=rule, stopping=stopping)

    def run(images: torch.Tensor) -> Outcome:
        result = inferer.classify(images, network)
        return Outcome({rule: result.predicted}, result.network_evaluations)

    return run


def make_methods(
    network: torch.nn.Module, scheduler: Any, num_draws: int, block: int, notes: list[str]
) -> list[Method]:
    """All methods; (a) to (d) and the fastest."""
    process, models = NoiseProcess(scheduler), read_models(notes)
    short = min(SHORT, num_draws)
    stages = (max(1, num_draws // 10), num_draws)

    def loop(images: torch.Tensor, **settings: Any) -> Outcome:
        return reference_loop(images, network, process, **settings)

    methods = [
        Method("reference", "reference loop, one image a call", lambda x: loop(x, num_draws=num_draws)),
        Method(
            "reference_batched",
            f"reference loop, up to {block} images a call",
            lambda x: loop(x, num_draws=short, image_batch=block),
            scale=num_draws / short,
        ),
        Method(
            "li",
            f"Li et al., stages {stages[0]} and {stages[1]}, mean",
            lambda x: li_method(x, network, process, draws=stages, keep=(5, 1)),
        ),
        Method("exact", "ours, all draws", exact(network, scheduler, num_draws)),
    ]
    rules: list[tuple[str, str, str, StoppingRule]] = [
        ("curtailed_vote", "exact curtailment", "vote", CurtailedVote()),
        *(("sequential_" + r, "sequential test", r, SequentialTest(ALPHA)) for r in ("vote", "mean")),
        *(("predictive_" + r, "predictive", r, PredictiveCurtailment(ALPHA, models[r])) for r in ("vote", "mean")),
        ("staged_mean", "stages", "mean", stage_rule(num_draws, 2)),
    ]
    for name, label, rule, stopping in rules:
        run = stopped(network, scheduler, num_draws, rule, stopping)
        methods.append(Method(name, f"ours, {label}, {rule}", run))
    try:
        from monai_diffclf.networks.fast_inference import fast_inference
    except ImportError:
        notes.append("fast_inference is missing: the fastest setting was not measured.")
        return methods
    fast = fast_inference(network)
    methods.append(Method("fast_exact", "ours, fast network, all draws", exact(fast, scheduler, num_draws)))
    for rule in ("vote", "mean"):
        run = stopped(fast, scheduler, num_draws, rule, PredictiveCurtailment(ALPHA, models[rule]))
        methods.append(Method(f"fast_predictive_{rule}", f"ours, fast network, predictive, {rule}", run))
    return methods


def compare(methods: list[Method], images: torch.Tensor, block: int, bar: tqdm[Any]) -> None:
    """Let all methods classify all images, block by block, each block in another order."""
    for index, part in enumerate(images.split(block)):
        order = torch.randperm(len(methods), generator=torch.Generator().manual_seed(index)).tolist()
        for number in order:
            method = methods[number]
            bar.set_postfix_str(method.name)
            start = time.perf_counter(), time.process_time()
            method.outcomes.append(method.run(part))
            method.seconds.append(time.perf_counter() - start[0])
            method.processor_seconds.append(time.process_time() - start[1])
            bar.update()


def summarise(methods: list[Method], labels: torch.Tensor) -> list[dict[str, Any]]:
    """Cost, ratios, agreement and accuracy of each method."""
    by_name = {method.name: method for method in methods}
    reference, full = by_name["reference"], by_name["exact"].predicted()
    rows = []
    for method in methods:
        seconds, spent = sum(method.seconds) * method.scale, method.evaluations().double() * method.scale
        ratios = [a / (b * method.scale) for a, b in zip(reference.seconds, method.seconds, strict=True)]
        row: dict[str, Any] = {
            "name": method.name,
            "label": method.label,
            "seconds_per_image": seconds / len(labels),
            "evaluations_per_image": float(spent.mean()),
            "milliseconds_per_evaluation": 1000 * seconds / float(spent.sum()),
            "times_faster": sum(reference.seconds) / seconds,
            "times_faster_processor": sum(reference.processor_seconds) / (sum(method.processor_seconds) * method.scale),
            "times_faster_in_each_block": [round(ratio, 3) for ratio in ratios],
        }
        if method.scale != 1:
            row["scaled_from_draws"] = SHORT
        else:
            predicted = method.predicted()
            row["predicted"] = {rule: found.tolist() for rule, found in predicted.items()}
            row["agreement"] = {r: scaling.share(int((p == full[r]).sum()), len(p)) for r, p in predicted.items()}
            row["accuracy"] = {r: scaling.share(int((p == labels).sum()), len(p)) for r, p in predicted.items()}
        rows.append(row)
    return rows


def scale_up(network: torch.nn.Module, scheduler: Any, quick: bool, bar: tqdm[Any], notes: list[str]) -> dict[str, Any]:
    """How the cost grows."""
    small: dict[str, Any] = {"evaluations": 16, "repeats": 1} if quick else {}
    sizes = (1, 8) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    found: dict[str, Any] = {"batch_size": scaling.batch_sizes(network, scheduler, sizes, **small)}
    best = min(found["batch_size"], key=lambda row: row["bare_ms"])["batch_size"]
    bar.update()
    found["against_bare"] = scaling.against_bare(network, scheduler, best, **small)
    bar.update()
    found["image_size"] = scaling.image_sizes(scheduler, (32, 48) if quick else (32, 48, 64, 96), **small)
    bar.update()
    found["threads"] = scaling.threads(scheduler, (1,) if quick else (1, 2), **small)
    bar.update()
    found["processes"] = [] if quick else scaling.processes((1, 2))
    bar.update()
    file = BUNDLE / "docs" / "evaluation" / "errors_test_draws_501.npz"
    found["stored"] = None if quick else scaling.stored_errors(file, read_models([]))
    if found["stored"] is None and not quick:
        notes.append(f"{file.name} is missing: the rules were not replayed on all test images.")
    bar.update()
    problem = {"classes": (2, 3), "images": 8, "num_draws": 16} if quick else {}
    found["classes"] = grow_classes(**problem)  # type: ignore[arg-type]
    bar.update()
    return found


STEPS = 7  # of scale_up


def machine(count: int) -> dict[str, Any]:
    """What it ran on, in general terms."""
    return {
        "cpu": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": count,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pneumoniamnist.npz")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--draws", type=int, default=501)
    parser.add_argument(
        "--block", type=int, default=10, help="images that a method classifies before the next one's turn"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample of images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--quick", action="store_true", help="2 images, 16 draws, small scaling: a smoke test")
    parser.add_argument("--no-progress", action="store_true")
    args = parser.parse_args(arguments)
    if args.quick:
        args.images, args.draws, args.block = 2, 16, 1
    if args.draws < 8 or args.block < 1 or args.threads < 1:
        parser.error("--draws, --block, --threads: expected at least 8, 1 and 1")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    notes: list[str] = ["A smoke test: the numbers mean nothing."] if args.quick else []
    try:
        config, network = read_bundle()
        images, labels = sample_images(config, args.data, args.images, args.seed)
    except ValueError as error:
        sys.exit(f"side_by_side: {error}")
    scheduler = config.get("scheduler")
    methods = make_methods(network, scheduler, args.draws, args.block, notes)
    with torch.inference_mode():
        for size in (1, 32, 256):  # first calls build what later ones reuse
            network(
                torch.zeros(size, *images.shape[1:]), torch.zeros(size).long(), class_labels=torch.zeros(size).long()
            )
    start = time.perf_counter()
    blocks = -(-len(images) // args.block)
    with tqdm(total=blocks * len(methods) + STEPS, disable=args.no_progress, desc="speed") as bar:
        compare(methods, images, args.block, bar)
        growth = scale_up(network, scheduler, args.quick, bar, notes)
    content = {
        "quick": args.quick,
        "settings": {
            "images": len(images),
            "draws": args.draws,
            "block": args.block,
            "seed": args.seed,
            "alpha": ALPHA,
        },
        "machine": machine(args.threads),
        "network": network_hash(network),
        "seconds_in_all": time.perf_counter() - start,
        "notes": notes,
        "methods": summarise(methods, labels),
        "scaling": growth,
    }
    replace_text(args.output, json.dumps(content, indent=1) + "\n")
    print(args.output)


if __name__ == "__main__":
    main()
