"""How well shipped models notice images that are none of their kind, beside other scores of unlikeness.

    python -m benchmarks.uncertainty.out_of_distribution images DATA [--bundle NAME] [--images 100]
    python -m benchmarks.uncertainty.out_of_distribution encoder DATA [--bundle NAME]
    python -m benchmarks.uncertainty.out_of_distribution errors DATA [--bundle NAME]
    python -m benchmarks.uncertainty.out_of_distribution report

DATA holds the folders pneumoniamnist_28, isic2017_256, busi_256 and kermany_cxr_224. The kinds and which of them are
held out are in ``kinds.py``; corruptions are made of test images, at the size that the network sees. ``images`` writes
the scores of pixel statistics, ``encoder`` those of features of EfficientNet-Lite0, ``errors`` those that need the
diffusion model (an hour on a CPU) and ``resnet`` the energy of the logits of the ResNet-18 of --resnet, all to
``benchmarks/results/out_of_distribution/BUNDLE_KIND.npz``; a score that is there is left alone. Typicality is the
shipped one (``configs/uncertainty.json``), by the larger of its scores of the image and of the errors:
``knows_training``, as what it knows of images is fitted to training and validation images. ``typicality`` and
``typicality_of_image`` are of the first look, when it was fitted to validation images alone, and are not made anew. The
others are fitted to 500 training images. ``report`` writes areas under the ROC curve, in which test images as they are
are to score lower than those of a kind, with 95 % intervals, to ``benchmarks/results/out_of_distribution.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.uncertainty.kinds import CORRUPTIONS, DEVELOPMENT, HELD_OUT, corrupt
from benchmarks.uncertainty.unlikeness import energy, lite0_features, mahalanobis, nearest, twenty_statistics
from monai_diffclf._spread import spread
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.data import make_phantoms
from monai_diffclf.data.example_scans import make_example_scan
from monai_diffclf.data.table_rows import read_rows
from monai_diffclf.metrics import bootstrap_interval, roc_auc
from monai_diffclf.networks import load_weights
from monai_diffclf.storage.atomic_file import replace_text
from monai_diffclf.uncertainty import Typicality, image_statistics, likelihood_score
from monai_diffclf.uncertainty.gaussian_part import largest_score
from monai_diffclf.uncertainty.typicality import ERRORS

MODELS = {"pneumonia_xray_diffusion": "chest X-rays", "skin_lesion_diffusion": "dermoscopy"}
FOLDERS = {
    "pneumonia_xray_diffusion": "pneumoniamnist_28",
    "pneumonia_xray_score": "pneumoniamnist_28",
    "skin_lesion_diffusion": "isic2017_256",
    "dermoscopy": "isic2017_256",
    "ultrasound": "busi_256",
    "X-rays": "kermany_cxr_224",
}
SCORES = RESULTS / "out_of_distribution"
NUM_TRAINING = 500  # training images that a baseline is fitted to
Array = np.ndarray[Any, Any]


def as_stored(images: Sequence[Any]) -> Array:
    """Images [n, C, H, W] in [0, 1] as arrays [n, H, W] or [n, H, W, 3]."""
    array = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return array[:, 0] if array.shape[1] == 1 else np.moveaxis(array, 1, -1)


def foreign(kind: str, data: Path, count: int, shape: Sequence[int]) -> Array:
    """Images of another source, grey or in colour and of the size of ``shape`` [H, W] or [H, W, 3]."""
    if kind == "phantom films":
        pictures = [Image.fromarray(np.uint8(255 * x["image"][0])) for x in make_phantoms(count, seed=20261129)]
    elif kind == "example scans":
        scans = [make_example_scan(number % 6, number, seed=20261129) for number in range(count)]
        pictures = [Image.fromarray(np.uint8(255 * scan)) for scan in scans]
    else:
        folder = data / FOLDERS[kind]
        rows = list(read_rows(folder / "labels.csv", ("file",)))
        column = next(name for name in ("split", "split_own") if name in rows[0].fields)
        pictures = [Image.open(folder / r["file"]) for r in spread([r for r in rows if r[column] == "test"], count)]
    mode = "L" if len(shape) == 2 else "RGB"
    size = (shape[1], shape[0])
    small = [picture.convert(mode).resize(size, Image.Resampling.BOX) for picture in pictures]
    return np.stack([np.asarray(picture, dtype=np.float32) / 255 for picture in small])


class Kinds:
    """Images of a bundle's kinds, as its network sees them.

    Args:
        name: name of the bundle.
        data: folder of the data sets.
        count: test images of each kind.
    """

    def __init__(self, name: str, data: Path, count: int) -> None:
        settings = {"label_type": "index"} if name == "skin_lesion_diffusion" else {}
        folder = data / FOLDERS[name]
        self.config: Bundle = open_bundle(
            BUNDLES / name, "train.json", "evaluate.json", dataset_dir=str(folder), progress=False, **settings
        )
        self.name, self.data, self.count = name, data, count

    def training(self, count: int) -> torch.Tensor:
        """Some training images without augmentation [n, C, H, W]."""
        read = self.config.get("validate#preprocessing")
        items = spread(self.config.get("train#datalist"), count)
        return torch.stack([torch.as_tensor(read(item)["image"]) for item in items]).float()

    def test(self) -> Array:
        """Test images at the network's size before padding, in [0, 1]."""
        read, size = self.config.get("validate#preprocessing"), self.config.image_size
        items = spread(self.config.get("test#datalist"), self.count)
        images = torch.stack([torch.as_tensor(read(item)["image"]) for item in items]).float()
        before = [(have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True)]
        inner = images[:, :, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
        return as_stored((inner + 1) / 2)

    def images(self, kind: str) -> torch.Tensor:
        """Images of a kind [n, C, H, W] in [-1, 1], padded as the bundle pads."""
        test = self.test()
        made = corrupt(test, kind) if kind in CORRUPTIONS else foreign(kind, self.data, self.count, test.shape[1:])
        tensor = torch.from_numpy(made[:, None] if made.ndim == 3 else np.moveaxis(made, -1, 1).copy())
        whole = self.config.get("validate#preprocessing")(self.config.get("test#datalist")[0])["image"].shape[1:]
        pads = [padded - n for padded, n in zip(whole, tensor.shape[2:], strict=True)]
        edges = (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)
        return torch.nn.functional.pad(tensor.float().clamp(0, 1), edges, mode="replicate") * 2 - 1


def kinds_of(name: str) -> list[str]:
    return ["none", *DEVELOPMENT[MODELS[name]], *HELD_OUT[MODELS[name]]]


def typicality_of(name: str) -> Typicality:
    """The shipped typicality."""
    content = json.loads((BUNDLES / name / "configs" / "uncertainty.json").read_text(encoding="utf-8"))
    return Typicality.from_dict(content["typicality"])


def place(name: str, kind: str) -> Path:
    return SCORES / f"{name}_{kind.replace(' ', '_')}.npz"


def score_images(args: argparse.Namespace, name: str) -> None:
    """Scores of pixel statistics: the part of typicality that needs no network, and twenty of them."""
    kinds = Kinds(name, args.data, args.images)
    of_image = {part: fitted for part, fitted in typicality_of(name).parts.items() if part != ERRORS}
    twenty = mahalanobis(twenty_statistics(kinds.training(NUM_TRAINING)))
    for kind in missing(name, "knows_training_of_image"):
        images = kinds.images(kind)
        own = largest_score(of_image, image_statistics(images)).numpy()
        add(place(name, kind), {"knows_training_of_image": own, "pixel_statistics": twenty(twenty_statistics(images))})


def score_encoder(args: argparse.Namespace, name: str) -> None:
    """Distances of the features of a pretrained encoder."""
    kinds = Kinds(name, args.data, args.images)
    known = lite0_features(kinds.training(NUM_TRAINING))
    from_all, from_nearest = mahalanobis(known), nearest(known)
    for kind in missing(name, "encoder_mahalanobis"):
        features = lite0_features(kinds.images(kind))
        scores = {"encoder_mahalanobis": from_all(features), "encoder_neighbours": from_nearest(features)}
        add(place(name, kind), scores)


def missing(name: str, method: str) -> list[str]:
    """The kinds without a score."""
    paths = {kind: place(name, kind) for kind in kinds_of(name)}
    return [kind for kind, path in paths.items() if not path.is_file() or method not in np.load(path)]


def add(path: Path, scores: dict[str, Array]) -> None:
    """Add scores to those that are there, which stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = dict(np.load(path)) if path.is_file() else {}
    np.savez_compressed(path, **({key: values.astype(np.float32) for key, values in scores.items()} | known))
    print(path, sorted(scores), flush=True)


def score_errors(args: argparse.Namespace, name: str) -> None:
    """Scores by the diffusion model, and by a ResNet-18 where there is one."""
    kinds, typicality = Kinds(name, args.data, args.images), typicality_of(name)
    network, inferer = (kinds.config.get(f"evaluate#{part}") for part in ("network", "inferer"))
    for kind in missing(name, "typicality_of_errors"):
        images, parts = kinds.images(kind), []
        for batch in images.split(20):
            errors = inferer.compute_errors(batch, network)
            own = typicality.parts[ERRORS].score(typicality.describe(errors)[0])
            parts.append((own, likelihood_score(errors)))
        names = ("typicality_of_errors", "likelihood")
        add(
            place(name, kind),
            {key: torch.cat(part).numpy() for key, part in zip(names, zip(*parts, strict=True), strict=True)},
        )


def score_resnet(args: argparse.Namespace, name: str) -> None:
    """Energy of the logits of a ResNet-18 of the bundle for comparison."""
    kinds = Kinds(name, args.data, args.images)
    other = open_bundle(BUNDLES / name.replace("diffusion", "resnet18"), "train.json", progress=False)
    network = load_weights(other.get("network_def"), args.resnet).eval()
    size = kinds.config.image_size
    for kind in missing(name, "energy"):
        images = kinds.images(kind)
        start = [(have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True)]
        inner = images[:, :, start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
        add(place(name, kind), {"energy": energy(network, inner)})


def separation(inside: Array, outside: Array) -> dict[str, float]:
    """Area under the ROC curve of two groups of scores, with its interval."""
    labels = np.r_[np.zeros(len(inside)), np.ones(len(outside))].astype(int)
    found = bootstrap_interval(roc_auc, labels, np.r_[inside, outside].astype(np.float64), strata=labels)
    return {key: round(float(value), 6) for key, value in found._asdict().items()}


def report() -> None:
    """Areas of all kinds that were scored, and their means over the development and the held-out ones."""
    content: dict[str, Any] = {}
    for name, data in MODELS.items():
        known = {kind: dict(np.load(path)) for kind in kinds_of(name) if (path := place(name, kind)).is_file()}
        if "none" not in known:
            continue
        for scores in known.values():
            if {"typicality_of_errors", "knows_training_of_image"} <= scores.keys():
                scores["knows_training"] = np.maximum(scores["typicality_of_errors"], scores["knows_training_of_image"])
        inside, typicality = known.pop("none"), typicality_of(name)
        group = {kind: "held_out" if kind in HELD_OUT[data] else "development" for kind in known}
        entry: dict[str, Any] = {"num_test": len(inside["pixel_statistics"]), "kinds": {}, "mean": {}, "lowest": {}}
        for kind, scores in known.items():
            areas = {m: separation(inside[m], scores[m]) for m in scores if m in inside}
            entry["kinds"][kind] = {"group": group[kind], "num_images": len(scores["pixel_statistics"]), **areas}
        for part in ("development", "held_out"):
            own = [areas for areas in entry["kinds"].values() if areas["group"] == part]
            shared = [m for m in inside if own and all(m in areas for areas in own)]
            entry["mean"][part] = {m: round(float(np.mean([a[m]["value"] for a in own])), 6) for m in shared}
            entry["lowest"][part] = {m: round(float(np.min([a[m]["value"] for a in own])), 6) for m in shared}
        best = "knows_training" if "knows_training" in inside else "knows_training_of_image"
        p = typicality.p_value(torch.from_numpy(inside[best].astype(np.float64)))
        entry["share_of_test_with_p_below_0.01"] = round(float((p < 0.01).double().mean()), 6)
        content[name] = entry
        for part, means in entry["mean"].items():
            print(name, part, means, "lowest", entry["lowest"][part])
    replace_text(RESULTS / "out_of_distribution.json", json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("images", "encoder", "errors", "resnet", "report"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--bundle", choices=tuple(MODELS), action="append")
    parser.add_argument("--images", type=int, default=100, help="of each kind")
    parser.add_argument("--resnet", type=Path, help="weights of the bundle's ResNet-18")
    args = parser.parse_args()
    if args.command == "report":
        return report()
    if args.data is None or (args.command == "resnet" and (args.resnet is None or len(args.bundle or []) != 1)):
        parser.error("expected DATA, and for resnet one --bundle and --resnet")
    run = {"images": score_images, "encoder": score_encoder, "errors": score_errors, "resnet": score_resnet}[
        args.command
    ]
    for name in args.bundle or MODELS:
        run(args, name)
    return None


if __name__ == "__main__":
    main()
