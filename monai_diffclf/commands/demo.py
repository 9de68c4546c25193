# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf demo``: a trained model classifies images it has not seen, and writes a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from ..bundle import Bundle, open_bundle
from ..classification import DenoisingErrors
from ..data import load_datalist
from ..data.phantoms import make_phantoms
from ..inferers import DiffusionClassifierInferer
from ..report import ReportData, write_report
from ..report.curves import RULES, metric_table
from .results import command_options, finish

__all__ = ["command"]

PHANTOMS, RADIOGRAPHS = "phantom_xray_diffusion", "pneumonia_xray_diffusion"
# The phantom bundle trains, validates and tests on phantoms of other seeds.
DEMO_SEED = 2027
_BATCH = 10


@click.command("demo")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    metavar="FILE",
    show_default=True,
    help="The report.",
)
@click.option(
    "--data",
    metavar="FOLDER",
    help="Classify test images of PneumoniaMNIST (pneumoniamnist.npz) in this folder instead.",
)
@click.option("--images", type=int, default=150, metavar="N", show_default=True, help="Images to classify, 20 or more.")
@click.option(
    "--draws", type=click.IntRange(min=1), default=51, metavar="N", show_default=True, help="Noise draws per image."
)
@command_options
def command(output: Path, data: str | None, images: int, draws: int, progress: bool, debug: bool) -> None:
    """Classify images that a shipped model has not seen, and write a report.

    The images are made for the occasion, synthetic chest films with and without a lesion. Needs no GPU and no download.
    """
    if images < 20:
        raise ValueError(f"--images: expected 20 or more, so that both classes occur; got {images}")
    made = _radiographs(data, images, draws, progress) if data is not None else _phantoms(images, draws, progress)
    path = write_report(output, made).resolve()
    table = metric_table(made)
    finish({"path": str(path), "images": len(made.labels), "metrics": table}, f"{_summary(table)}\n{path}")


def _phantoms(count: int, draws: int, progress: bool) -> ReportData:
    """Classify phantoms made for the occasion."""
    bundle = open_bundle(PHANTOMS, "train.json")
    items = make_phantoms(count, seed=DEMO_SEED)
    return _classify(
        bundle,
        items,
        draws,
        progress=progress,
        title="A diffusion model looks for lesions in phantoms",
        subject=f"{len(items)} synthetic chest films made for this run",
        data_note=f"Phantoms: computed images that resemble chest films, of nobody; the lesion's place is known. Seed "
        f"{DEMO_SEED}, which neither training nor validation used.",
        masks=np.stack([item["mask"] for item in items]),
    )


def _radiographs(data: str, count: int, draws: int, progress: bool) -> ReportData:
    """Classify images of PneumoniaMNIST's test set."""
    given = Path(data)
    if not (given if given.suffix == ".npz" else given / "pneumoniamnist.npz").is_file():
        raise ValueError(f"--data: expected a folder with pneumoniamnist.npz, got {given}, which has none")
    bundle = open_bundle(RADIOGRAPHS, "train.json")
    every = load_datalist(data, "test", classes=bundle.classes, patients=bundle.root / "configs" / "patients.csv")
    order = np.random.default_rng(0).permutation(len(every))[:count]
    items = [every[i] for i in order]
    return _classify(
        bundle,
        items,
        draws,
        progress=progress,
        title="A diffusion model reads chest X-rays",
        subject=f"{len(items)} of the {len(every)} test images of PneumoniaMNIST",
        data_note="PneumoniaMNIST (MedMNIST v2; Kermany et al. 2018, CC BY 4.0): paediatric chest X-rays, official "
        "test set.",
        groups=np.array([item["patient"] for item in items]),
    )


def _classify(
    bundle: Bundle,
    items: Sequence[dict[str, Any]],
    draws: int,
    *,
    progress: bool,
    title: str,
    subject: str,
    data_note: str,
    masks: np.ndarray[Any, Any] | None = None,
    groups: np.ndarray[Any, Any] | None = None,
) -> ReportData:
    """Classify the items and gather what the report needs."""
    images, names = bundle.read(items), bundle.classes
    errors, maps, seconds = _errors(bundle, images, draws, progress=progress)
    parameters = sum(parameter.numel() for parameter in bundle.network.parameters()) / 1e6
    processor = (
        torch.cuda.get_device_name() if bundle.device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    )
    return ReportData(
        title=title,
        description=f"A class-conditional diffusion model classified {subject}, none of which it had seen in training. "
        f"It removed noise from each image once as “{names[0]}” and once as “{names[1]}”, {draws} times, and took "
        "the class under which it did better.",
        images=images.numpy(),
        labels=np.array([item["label"] for item in items]),
        class_names=names,
        errors=errors,
        error_maps=maps.numpy(),
        masks=masks,
        keys=[str(item["key"]) for item in items],
        groups=groups,
        seconds=seconds,
        device=processor,
        data_note=data_note,
        model_note=f"Bundle {bundle.name}: {type(bundle.network).__name__}, {parameters:.2f} million parameters.",
    )


def _errors(
    bundle: Bundle, images: torch.Tensor, draws: int, *, progress: bool
) -> tuple[DenoisingErrors, torch.Tensor, float]:
    """Errors [B, K, N], error maps [B, K, H, W] and the seconds they took, under a progress bar."""
    inferer = DiffusionClassifierInferer(bundle.scheduler, num_classes=len(bundle.classes), num_draws=draws)
    network = bundle.network
    errors, maps, start = [], [], time.perf_counter()
    with tqdm(total=len(images), unit=" images", desc="classifying", file=sys.stderr, disable=not progress) as bar:
        for first in range(0, len(images), _BATCH):
            batch = images[first : first + _BATCH].to(bundle.device)
            result = inferer.classify(batch, network, error_maps=True)
            errors.append(result.errors.to("cpu"))
            maps.append(result.error_maps)
            bar.update(len(batch))
    seconds = time.perf_counter() - start
    return DenoisingErrors.concatenate(errors), torch.cat([m for m in maps if m is not None]).cpu(), seconds


def _summary(table: Mapping[str, Any]) -> str:
    """The metrics as a small table."""
    lines = [" " * 20 + "".join(f"{name:<26}" for name in RULES.values())]
    for metric in ("auc", "balanced_accuracy", "sensitivity", "specificity"):
        cells = (table[rule][metric] for rule in RULES)
        values = "".join(f"{c['value']:.3f} ({c['low']:.3f} to {c['high']:.3f})    " for c in cells)
        lines.append(f"{metric.replace('_', ' '):<20}{values}".rstrip())
    return "\n".join(lines)
