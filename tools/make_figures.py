"""Draw the pictures of the pneumonia bundle: its training curves and some test images with their explanation.

    python -m tools.make_figures --runs RUNS --data DATA

RUNS holds the folders seed_0, seed_1, ... that training wrote, DATA is the folder of pneumoniamnist.npz. Writes
``docs/training_curves.png`` into the bundle and ``docs/images/examples.png`` into the project.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.bundles import BUNDLES, ROOT
from monai_diffclf.bundle import open_bundle
from monai_diffclf.data import load_datalist
from monai_diffclf.explain import class_difference, overlay
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import load_weights

BUNDLE = BUNDLES / "pneumonia_xray_diffusion"
COLOURS = ("#0072b2", "#d55e00", "#009e73")


def training_curves(runs: Path) -> None:
    """Loss (running mean) and validation AUC of every seed, and the last grid of samples of the first."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), width_ratios=(1, 1, 1.2))
    for colour, folder in zip(COLOURS, sorted(runs.glob("seed_*")), strict=False):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
        events.Reload()
        loss = events.Scalars("train_loss")
        values = np.convolve([e.value for e in loss], np.ones(50) / 50, mode="valid")
        axes[0].plot(range(50, len(loss) + 1), values, color=colour, linewidth=1, label=folder.name.replace("_", " "))
        auc = events.Scalars("val_auc")
        axes[1].plot([e.step for e in auc], [e.value for e in auc], "o-", color=colour, markersize=4)
        if colour == COLOURS[0]:
            picture = events.Images("samples_by_class")[-1].encoded_image_string
            (runs / "samples.png").write_bytes(picture)
    axes[0].set(xlabel="step", ylabel="training loss", yscale="log")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].set(xlabel="epoch", ylabel="validation AUC", ylim=(0.9, 1.0))
    axes[2].imshow(plt.imread(runs / "samples.png"), cmap="gray")
    axes[2].set_title("samples: normal (top), pneumonia (bottom), same noise", fontsize=8)
    axes[2].axis("off")
    for axis in axes[:2]:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(BUNDLE / "docs" / "training_curves.png", dpi=90)


def examples(data: Path) -> None:
    """Test images, four of each class: the image, and the explanation of pneumonia over it."""
    config = open_bundle(BUNDLE, "train.json", dataset_dir=str(data))

    items = load_datalist(data, "test", classes=config.classes)
    chosen = [[i for i in items if i["label"] == label][5:9] for label in (0, 1)]
    transform = config.get("validate#preprocessing")
    batch = [item for group in chosen for item in group]
    images = torch.stack([torch.as_tensor(transform(dict(item))["image"]) for item in batch])
    network = load_weights(config.get("denoiser"), BUNDLE / "models" / "model.pt")
    inferer = DiffusionClassifierInferer(config.get("scheduler"), num_classes=2)
    result = inferer.classify(images, network, error_maps=True)
    if result.error_maps is None:
        raise RuntimeError("no error maps came back")
    difference = class_difference(result.error_maps, torch.ones(len(images), dtype=torch.long))
    figure, axes = plt.subplots(2, 8, figsize=(12, 3.5))
    for i, column in enumerate(axes.T):
        grey = (images[i].numpy() + 1) / 2
        column[0].imshow(grey[0], cmap="gray", vmin=0, vmax=1)
        truth = config.classes[batch[i]["label"]]
        share = float(result.vote_share[i, 1])
        column[0].set_title(f"{truth}\n{share:.0%} vote pneumonia", fontsize=9)
        column[1].imshow(overlay(grey, difference[i].numpy(), size=224))
        for axis in column:
            axis.axis("off")
    figure.tight_layout()
    (ROOT / "docs" / "images").mkdir(parents=True, exist_ok=True)
    figure.savefig(ROOT / "docs" / "images" / "examples.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    training_curves(args.runs)
    examples(args.data)


if __name__ == "__main__":
    main()
