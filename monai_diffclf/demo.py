# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A trained model classifies images it has not seen, and writes a report: ``python -m monai_diffclf.demo``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from .classification import DenoisingErrors
from .data import load_datalist
from .data.phantoms import make_phantoms
from .inferers import DiffusionClassifierInferer
from .networks import load_weights
from .report import ReportData, write_report
from .report.curves import RULES, metric_table

__all__ = ["main"]

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
# The phantom bundle trains, validates and tests on phantoms of other seeds.
DEMO_SEED = 2027
_BATCH = 10


@dataclass(frozen=True)
class _Bundle:
    """What the demo takes from a trained bundle: `classify` is all it does with it."""

    root: Path
    parser: ConfigParser
    network: torch.nn.Module
    device: torch.device

    @classmethod
    def load(cls, root: Path) -> _Bundle:
        """Read the bundle's configuration and weights.

        Raises:
            FileNotFoundError: when one of them is absent.
        """
        config, weights = root / "configs" / "train.json", root / "models" / "model.pt"
        for file in (config, weights):
            if not file.is_file():
                raise FileNotFoundError(
                    f"{file} not found: the demo needs the project's folder bundles, with weights. Run it from a full "
                    "copy of the project, or train the bundle as its docs/README.md says."
                )
        parser = ConfigParser()
        parser.read_config(str(config))
        parser["bundle_root"] = str(root)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_weights(parser.get_parsed_content("denoiser"), weights).to(device)
        return cls(root, parser, network, device)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.parser["classes"])

    def read(self, items: Sequence[dict[str, Any]]) -> torch.Tensor:
        """The images [B, C, H, W] as the network takes them."""
        transform = self.parser.get_parsed_content("validate#preprocessing")
        return torch.stack([torch.as_tensor(transform(dict(item))["image"]) for item in items])

    def classify(self, images: torch.Tensor, draws: int) -> tuple[DenoisingErrors, torch.Tensor, float]:
        """Errors [B, K, N], error maps [B, K, H, W] and the seconds they took, under a progress bar."""
        inferer = DiffusionClassifierInferer(
            self.parser.get_parsed_content("scheduler"), num_classes=len(self.classes), num_draws=draws
        )
        errors, maps, start = [], [], time.perf_counter()
        with tqdm(total=len(images), unit="image", desc="classifying", file=sys.stderr) as bar:
            for first in range(0, len(images), _BATCH):
                batch = images[first : first + _BATCH].to(self.device)
                result = inferer.classify(batch, self.network, error_maps=True)
                errors.append(result.errors.to("cpu"))
                maps.append(result.error_maps)
                bar.update(len(batch))
        seconds = time.perf_counter() - start
        return DenoisingErrors.concatenate(errors), torch.cat([m for m in maps if m is not None]).cpu(), seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: the command line, without the program's name; None takes that of the process.

    Returns:
        the exit status: 0, or 2 when something needed is absent.
    """
    options = _parse(arguments)
    try:
        data = _phantoms(options) if options.data is None else _radiographs(options)
        path = write_report(options.output, data)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 2
    print(_summary(data))
    print(path.resolve())
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split(":")[0] + ".")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="classify the test set of PneumoniaMNIST (pneumoniamnist.npz) in this folder instead of phantoms",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the report (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=150, metavar="N", help="images to classify, 20 or more (default: %(default)s)"
    )
    parser.add_argument(
        "--draws", type=int, default=51, metavar="N", help="noise draws per image (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.images < 20:
        parser.error(f"--images: expected 20 or more, so that both classes occur; got {options.images}")
    if options.draws < 1:
        parser.error(f"--draws: expected 1 or more, got {options.draws}")
    return options


def _phantoms(options: argparse.Namespace) -> ReportData:
    """Classify phantoms made for the occasion."""
    bundle = _Bundle.load(BUNDLES / "phantom_xray_diffusion")
    items = make_phantoms(options.images, seed=DEMO_SEED)
    return _classify(
        bundle,
        items,
        options.draws,
        title="A diffusion model looks for lesions in phantoms",
        subject=f"{len(items)} synthetic chest films made for this run",
        data_note=f"Phantoms: computed images that resemble chest films, of nobody; the lesion's place is known. Seed "
        f"{DEMO_SEED}, which neither training nor validation used.",
        masks=np.stack([item["mask"] for item in items]),
    )


def _radiographs(options: argparse.Namespace) -> ReportData:
    """Classify images of PneumoniaMNIST's test set."""
    given = Path(options.data)
    if not (given if given.suffix == ".npz" else given / "pneumoniamnist.npz").is_file():
        raise ValueError(f"--data: expected a folder with pneumoniamnist.npz, got {given}, which has none")
    bundle = _Bundle.load(BUNDLES / "pneumonia_xray_diffusion")
    every = load_datalist(
        options.data, "test", classes=bundle.classes, patients=bundle.root / "configs" / "patients.csv"
    )
    order = np.random.default_rng(0).permutation(len(every))[: options.images]
    items = [every[i] for i in order]
    return _classify(
        bundle,
        items,
        options.draws,
        title="A diffusion model reads chest X-rays",
        subject=f"{len(items)} of the {len(every)} test images of PneumoniaMNIST",
        data_note="PneumoniaMNIST (MedMNIST v2; Kermany et al. 2018, CC BY 4.0): paediatric chest X-rays, official "
        "test set.",
        groups=np.array([item["patient"] or item["key"] for item in items]),
    )


def _classify(
    bundle: _Bundle,
    items: Sequence[dict[str, Any]],
    draws: int,
    *,
    title: str,
    subject: str,
    data_note: str,
    masks: np.ndarray[Any, Any] | None = None,
    groups: np.ndarray[Any, Any] | None = None,
) -> ReportData:
    """Classify the items and gather what the report needs."""
    images = bundle.read(items)
    errors, maps, seconds = bundle.classify(images, draws)
    names = bundle.classes
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
        model_note=f"Bundle {bundle.root.name}: {type(bundle.network).__name__}, {parameters:.2f} million parameters.",
    )


def _summary(data: ReportData) -> str:
    """The metrics as a small table."""
    table = metric_table(data)
    lines = [" " * 20 + "".join(f"{name:<26}" for name in RULES.values())]
    for metric in ("auc", "balanced_accuracy", "sensitivity", "specificity"):
        cells = (table[rule][metric] for rule in RULES)
        values = "".join(f"{c['value']:.3f} ({c['low']:.3f} to {c['high']:.3f})    " for c in cells)
        lines.append(f"{metric.replace('_', ' '):<20}{values}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
