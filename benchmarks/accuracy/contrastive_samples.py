"""What the contrastive term does to the images that a model draws.

    python -m benchmarks.evidence.contrastive pneumoniamnist_28 --strengths 20 --epochs 20 --seeds 0 1 2
    monai-diffclf train skin_lesion_diffusion --data DATA --output runs/evidence/skin_lesion_first
    python -m benchmarks.accuracy.contrastive_samples [--images 200] [--steps 25]

The first trains the shipped model of X-rays on with the term; the second is the first of the two trainings of that of
skin lesions, without it, whose shipped weights are trained on with it. From these models and the shipped ones images of
each class are drawn (DDIM, the same noise for all models, no guidance). Three numbers tell how good they are, all of
features of EfficientNet-Lite0 (ImageNet) at 128 px:

- the kernel distance to training images of the class (KID, Binkowski et al. 2018, torchmetrics), mean over the classes;
  small is better, and that of validation images says how small it is for real ones;
- the share of the images that a logistic regression on training images takes for the class asked for, and of the
  validation images;
- the diversity: the mean distance of two drawn images of a class over that of two training images of it.

Writes ``benchmarks/results/contrastive_samples.json`` as it goes, and a picture of each model's images beside it with
--pictures. No test image is read, and nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import CenterSpatialCrop
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import pdist
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torchmetrics.image.kid import KernelInceptionDistance
from tqdm import tqdm

from benchmarks.bundles import RESULTS
from benchmarks.evidence.contrastive import tried_folder
from benchmarks.evidence.data import as_tensor, load
from benchmarks.evidence.methods.bundles import PIXELS
from benchmarks.evidence.run import WORK
from monai_diffclf._checks import plain_tensor
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.representations import make_encoder
from monai_diffclf.sampling import sample_classes
from monai_diffclf.storage.atomic_file import replace_text

OF_A_CLASS, SIZE, SUBSETS, SEED = 500, 128, 100, 0
FILE = RESULTS / "contrastive_samples.json"
RUNS: dict[str, dict[str, Path | None]] = {
    "pneumoniamnist_28": {"shipped": None}
    | {f"strength 20, seed {seed}": tried_folder("pneumoniamnist_28", 20.0, seed) for seed in range(3)},
    "isic2017_64": {"before the term": WORK / "skin_lesion_first", "shipped": None},
}
"""Data set -> name -> folder of a training, None for the shipped weights."""

Features = NDArray[np.float64]


class Given(torch.nn.Module):
    """Features that are known already, for a metric that asks a network for them."""

    num_features = 1280

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The same."""
        return features


def features_of(images: torch.Tensor) -> Features:
    """Pooled features [N, 1280] of images [N, C, H, W] in [-1, 1]."""
    encoder = make_encoder("efficientnet_lite0").eval()
    found = []
    for part in tqdm(images.split(50), desc="features", leave=False):
        resized = torch.nn.functional.interpolate(part, (SIZE, SIZE), mode="bilinear", antialias=True)
        with torch.inference_mode():
            found.append(encoder.features(resized.clamp(-1, 1)).vector)
    return torch.cat(found).double().numpy()


def kernel_distance(real: list[Features], drawn: list[Features]) -> float:
    """KID in thousandths, mean over the classes."""
    values = []
    for own, other in zip(real, drawn, strict=True):
        metric = KernelInceptionDistance(Given(), subsets=SUBSETS, subset_size=min(len(own), len(other)) // 2)
        for features, is_real in ((own, True), (other, False)):
            metric.update(torch.from_numpy(features).float(), real=is_real)
        torch.manual_seed(SEED)
        values.append(1000 * float(metric.compute()[0]))
    return round(float(np.mean(values)), 4)


def draw(bundle: Bundle, count: int, steps: int, shape: list[int]) -> list[torch.Tensor]:
    """Images [count, C, H, W] of each class, without the edge that a bundle pads images by."""
    multiple = int(bundle.get("pad_multiple")) if "pad_multiple" in bundle.parser else 1
    padded = [-(-length // multiple) * multiple for length in shape[1:]]
    drawn = []
    for label, name in enumerate(bundle.classes):
        parts = []
        for start in tqdm(range(0, count, 50), desc=name, leave=False):
            labels = torch.full((min(50, count - start),), label)
            settings = {"num_classes": len(bundle.classes), "num_steps": steps, "seed": 1000 * label + start}
            whole = [shape[0], *padded]
            parts.append(sample_classes(bundle.network, bundle.inferer.scheduler, labels, whole, **settings))
        drawn.append(CenterSpatialCrop(shape[1:])(torch.cat(parts).flatten(0, 1)).unflatten(0, (-1, shape[0])))
    return [plain_tensor(images).clamp(-1, 1) for images in drawn]


def picture(drawn: list[torch.Tensor], path: Path) -> None:
    """Ten images of each class, a row a class."""
    rows = [torch.cat(list(images[:10]), -1) for images in drawn]
    pixels = ((torch.cat(rows, -2) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


class Reference:
    """Training and validation images of a data set, class by class, and a classifier of the former."""

    def __init__(self, data: str) -> None:
        train, validation = load(data)
        self.shape = [train.pixels.shape[3], *train.pixels.shape[1:3]]
        classes = range(int(train.labels.max()) + 1)
        rng = np.random.default_rng(SEED)
        chosen = [rng.permutation(np.flatnonzero(train.labels == k))[:OF_A_CLASS] for k in classes]
        self.train = [features_of(as_tensor(train.take(rows))) for rows in chosen]
        self.validation = [features_of(as_tensor(validation.take(validation.labels == k))) for k in classes]
        labels = np.repeat(list(classes), [len(rows) for rows in chosen])
        everything = np.concatenate(self.train)
        self.scale = StandardScaler().fit(everything)
        self.model = LogisticRegression(C=1e-3, max_iter=1000, class_weight="balanced")
        self.model.fit(self.scale.transform(everything), labels)

    def measure(self, found: list[Features]) -> dict[str, float]:
        """The three numbers of images of each class."""
        as_asked = [float((self.model.predict(self.scale.transform(f)) == k).mean()) for k, f in enumerate(found)]
        spread = [pdist(f[:150]).mean() / pdist(own[:150]).mean() for f, own in zip(found, self.train, strict=True)]
        return {
            "kid": kernel_distance(self.train, found),
            "as_asked": round(float(np.mean(as_asked)), 4),
            "diversity": round(float(np.mean(spread)), 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="of each class")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each model's images")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"images": args.images, "steps": args.steps}
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    if content.get("settings", settings) != settings:
        parser.error(f"{FILE}: expected {content['settings']}, by which it was begun; remove it to begin anew")
    content["settings"] = settings
    for data, runs in RUNS.items():
        done = content.setdefault(data, {})
        if set(done) >= {"real", *runs}:
            continue
        reference = Reference(data)
        done["real"] = reference.measure(reference.validation)
        for name, run in runs.items():
            if name in done:
                continue
            bundle = open_bundle(PIXELS[data], run=run, device="cpu", weighting="uniform")
            drawn = draw(bundle, args.images, args.steps, reference.shape)
            done[name] = reference.measure([features_of(images) for images in drawn])
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                picture(drawn, args.pictures / f"{data} {name}.png")
            replace_text(FILE, json.dumps(content, indent=1) + "\n")
            print(data, name, done[name], flush=True)


if __name__ == "__main__":
    main()
