"""How much better typicality tells other kinds of images when it knows training images too, as development shows it.

    python -m benchmarks.uncertainty.training_images DATA

DATA holds the folders of the evidence's data sets. No test image is read, and no kind is one that the evidence judges
by. Of the training images of a data set 300 are kept apart and stand for usual images; 120 of them are made into kinds
(in grey, with red and blue exchanged, four times side by side, in coarse pixels, the middle enlarged, rows in another
order), beside drawn discs and X-rays of 28 px. The score is that of typicality without its part of the denoising
errors, which is the same in both: fitted to the validation images alone, and to the other training images as well, up
to 2,000 (what ``monai-diffclf fit`` takes). Writes AUROC by kind to ``benchmarks/results/typicality_training.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from benchmarks.bundles import RESULTS
from benchmarks.evidence.data import Images, as_tensor, load
from benchmarks.evidence.methods.bundles import FEATURES
from monai_diffclf._spread import spread
from monai_diffclf.bundle import open_bundle
from monai_diffclf.fitting.image_description import NUM_TRAINING, learned_from_training
from monai_diffclf.networks.latent_space import encode
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import image_statistics, latent_statistics
from monai_diffclf.uncertainty.gaussian_part import Features, cross_fit, largest_score

USUAL, OF_A_KIND, SEED = 300, 120, 0
Pixels = NDArray[np.uint8]


def describe(pixels: Pixels, space: Any, what: str) -> Features:
    """What typicality describes images [N, H, W, C] by."""
    nothing = np.zeros(len(pixels), np.int64)
    images = as_tensor(Images(pixels, nothing, nothing.astype(str), nothing.astype(str)))
    parts = [image_statistics(p) | latent_statistics(encode(space, p)) for p in tqdm(images.split(64), desc=what)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def discs(count: int, size: int, rng: np.random.Generator) -> Pixels:
    """Discs of random places and grey values [N, H, W, 1]."""
    y, x = np.mgrid[:size, :size]
    pictures = np.empty((count, size, size, 1), np.uint8)
    for picture in pictures:
        picture[:] = rng.integers(20, 230)
        for _ in range(rng.integers(1, 6)):
            place, radius = rng.uniform(0, size, 2), rng.uniform(size / 20, size / 3)
            picture[(y - place[0]) ** 2 + (x - place[1]) ** 2 < radius**2] = rng.integers(0, 256)
    return pictures


def kinds_of(pixels: Pixels, root: Path) -> dict[str, Pixels]:
    """Images of other kinds, of the size and the channels of some usual ones [N, H, W, C]."""
    size, channels, rng = pixels.shape[1], pixels.shape[3], np.random.default_rng(SEED)
    middle = slice(size * 3 // 8, size * 5 // 8)
    found = {
        "four times": np.tile(pixels[:, ::2, ::2], (1, 2, 2, 1)),
        "coarse pixels": pixels[:, ::16, ::16].repeat(16, 1).repeat(16, 2),
        "middle enlarged": pixels[:, middle, middle].repeat(4, 1).repeat(4, 2),
        "rows in another order": pixels[:, rng.permutation(size)],
        "discs": discs(len(pixels), size, rng).repeat(channels, 3),
        "X-rays of 28 px": load("pneumoniamnist_28", root=root)[1].pixels[: len(pixels)].repeat(8, 1).repeat(8, 2),
    }
    found["X-rays of 28 px"] = found["X-rays of 28 px"].repeat(channels, 3)
    if channels == 3:
        grey = pixels.mean(3, keepdims=True).round().astype(np.uint8)
        found |= {"in grey": grey.repeat(3, 3), "red and blue exchanged": pixels[..., ::-1].copy()}
    return found


def compare(data: str, root: Path) -> dict[str, Any]:
    """AUROC by kind of both fits on a data set."""
    train, validation = load(data, root=root)
    space = open_bundle(FEATURES[data], device="cpu").inferer.latent_space
    apart = np.sort(np.random.default_rng(SEED).permutation(len(train))[:USUAL])
    rest = np.asarray(spread(np.setdiff1d(np.arange(len(train)), apart).tolist(), NUM_TRAINING))
    training = dict(describe(train.take(rest).pixels, space, "training"))
    if learned_from_training(space):
        training.pop("latents")
    known = describe(validation.pixels, space, "validation")
    usual = describe(train.take(apart).pixels, space, "usual")
    groups = np.unique(validation.groups, return_inverse=True)[1].reshape(-1)
    fits = {name: cross_fit(known, groups, more)[0] for name, more in (("validation", None), ("training", training))}
    areas: dict[str, dict[str, float]] = {name: {} for name in fits}
    for kind, pixels in kinds_of(train.take(apart[:OF_A_KIND]).pixels, root).items():
        other = describe(pixels, space, kind)
        truth = np.repeat([0, 1], [len(apart), len(pixels)])
        for name, parts in fits.items():
            scores = torch.cat([largest_score(parts, usual), largest_score(parts, other)]).numpy()
            areas[name][kind] = round(float(roc_auc_score(truth, scores)), 6)
    means = {f"mean_{name}": round(float(np.mean(list(own.values()))), 6) for name, own in areas.items()}
    return {"num_training": len(rest), "num_validation": len(validation), **means, "kinds": areas}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    root = parser.parse_args().data
    torch.set_num_threads(1)
    content = {data: compare(data, root) for data in FEATURES}
    replace_text(RESULTS / "typicality_training.json", json.dumps(content, indent=1) + "\n")
    print(json.dumps({data: {k: v for k, v in found.items() if k != "kinds"} for data, found in content.items()}))


if __name__ == "__main__":
    main()
