"""Do features of training images from an encoder that was fitted to them mislead a classifier of these features?

    python -m benchmarks.adaptation.cross_fitting --data ../shared/data/busi_256 [--size 96] [--splits 2]

The official training images are parted in two thirds, on which EfficientNet-Lite0 is adapted, and one third, which is
judged together with the official validation images; no test image is read. Near-duplicates stay together. From 64
principal components of the features, averaged over the cells, a class-conditional Gaussian with one covariance (LDA,
shrinkage of Ledoit and Wolf, equal priors) is fitted, a cheap stand-in for the diffusion classifier, which is
class-conditional and generative as well. It is fitted to features of the training images

- ``frozen``: of the encoder as published, four augmented views an image,
- ``in_sample``: of the adapted encoder, each image once,
- ``views``: of the adapted encoder, four augmented views an image,
- ``cross_fitted``: of encoders adapted on the other folds, turned into the basis of the adapted one, each image once,
- ``cross_fitted_views``: the same with four views,

and judged on features of the adapted encoder (of the frozen one for ``frozen``): macro AUC, negative log-likelihood and
expected calibration error, before and after one temperature is fitted on the very images judged (so that what remains
is no matter of scale); ``temperature`` above 1 says how much too sure it was. ``softmax`` is the adapted classifier.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    ScaleIntensityRanged,
)
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from monai_diffclf.image_io import ReadImaged
from monai_diffclf.metrics import (
    expected_calibration_error,
    negative_log_likelihood,
    paired_difference_interval,
    roc_auc,
)
from monai_diffclf.representations import LatentDataset, RepresentationSpace, adapt_encoder, make_encoder
from monai_diffclf.representations.cross_fit import cross_fitted_features, split_folds
from monai_diffclf.storage.atomic_file import replace_text

VIEWS, FOLDS, COMPONENTS = 4, 3, 64


def read_items(folder: Path, split: str) -> list[dict[str, Any]]:
    """Images of a split, near-duplicates as one patient."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split", row.get("split_own")) == split]
    return [
        {
            "image": str(folder / row["file"]),
            "label": int(row["label"]),
            "key": row["file"],
            "patient": row.get("near_dup_group") or row["file"],
        }
        for row in rows
    ]


def transforms(size: int, colour: bool) -> Compose:
    """Reading, augmentation, scaling."""
    steps: list[Any] = [ReadImaged("image", spatial_size=size, channels=3 if colour else 1, resize=True)]
    steps += [RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in ((0, 1) if colour else (1,))]
    turn = np.pi if colour else 0.2
    steps += [
        RandAffined(
            "image", prob=1.0, rotate_range=turn, scale_range=[0.15, 0.15], translate_range=0.06 * size,
            padding_mode="reflection",
        ),
        RandAdjustContrastd("image", prob=0.5, gamma=(0.8, 1.25)),
        RandScaleIntensityd("image", prob=0.5, factors=0.15),
        ScaleIntensityRanged("image", 0, 1, -1, 1, clip=True),
        EnsureTyped("image", track_meta=False),
    ]  # fmt: skip
    return Compose(steps)


def pooled(dataset: Any, views: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features averaged over the cells, of every view, and labels."""
    rows = range(len(dataset))
    if hasattr(dataset, "parts"):
        blocks = [dataset.parts[part]._latents[place] for part, place in dataset.places]
    else:
        blocks = [dataset._latents[i] for i in rows]
    features = np.concatenate(
        [np.asarray(block, dtype=float).reshape(views, COMPONENTS, -1).mean(2) for block in blocks]
    )
    return features, np.repeat([int(item["label"]) for item in dataset.data], views)


def logits_of(train: Any, views: int, judged: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-posteriors of LDA with equal priors."""
    x, y = pooled(train, views)
    classes = len(set(y))
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
    return np.asarray(lda.fit(x, y).decision_function(judged) if classes > 2 else _two(lda.fit(x, y), judged))


def _two(lda: LinearDiscriminantAnalysis, judged: NDArray[np.float64]) -> NDArray[np.float64]:
    score = lda.decision_function(judged)
    return np.stack([-score / 2, score / 2], axis=1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(torch.as_tensor(logits).double().softmax(1))


def macro_auc(labels: Any, scores: Any, weights: Any = None) -> Any:
    """Macro AUC, one class against the rest, for one weighting or several [R, N]."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    return np.mean([roc_auc(labels == k, scores[:, k], weights=weights) for k in range(scores.shape[1])], axis=0)


def measure(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[str, float]:
    def loss(log_temperature: float) -> float:
        return float(negative_log_likelihood(labels, softmax(logits / np.exp(log_temperature))))

    best = float(minimize_scalar(loss, bounds=(-3, 4), method="bounded").x)
    before, after = softmax(logits), softmax(logits / np.exp(best))
    return {
        "macro_auc": float(macro_auc(labels, before)),
        "nll": loss(0.0),
        "ece": float(expected_calibration_error(labels, before)),
        "temperature": float(np.exp(best)),
        "nll_at_temperature": loss(best),
        "ece_at_temperature": float(expected_calibration_error(labels, after)),
        "accuracy": float((before.argmax(1) == labels).mean()),
    }


def one_split(
    train: Sequence[dict[str, Any]], judged: Sequence[dict[str, Any]], size: int, epochs: int, seed: int, colour: bool
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Logits of every way on the judged images, and what else was seen."""
    chain = transforms(size, colour)
    classes = 1 + max(int(item["label"]) for item in train)
    frozen = make_encoder("efficientnet_lite0", image_size=size)

    def plain(items: Sequence[dict[str, Any]], space: Any) -> LatentDataset:
        return LatentDataset(items, chain, space, views=0, progress=False)

    def fitted(encoder: Any, items: Sequence[dict[str, Any]]) -> RepresentationSpace:
        images = plain(items, None)
        batches = (
            torch.stack([images[i]["image"] for i in range(at, min(at + 32, len(items)))])
            for at in range(0, len(items), 32)
        )
        return RepresentationSpace(encoder, COMPONENTS).fit(batches)

    def adapted(items: Sequence[dict[str, Any]], number: int) -> Any:
        return adapt_encoder(
            frozen,
            CacheDataset(list(items), chain, progress=False),
            None,
            classes,
            epochs=epochs,
            seed=seed + 10 * number,
        )

    whole = adapted(train, 0)
    space, published = fitted(whole.encoder, train), fitted(frozen, train)

    def fit_space(items: list[dict[str, Any]], fold: int) -> RepresentationSpace:
        return fitted(adapted(items, fold + 1).encoder, items)

    spaces: dict[int, RepresentationSpace] = {}

    def once(items: list[dict[str, Any]], fold: int) -> RepresentationSpace:
        if fold not in spaces:
            spaces[fold] = fit_space(items, fold)
        return spaces[fold]

    def view_set(space: Any) -> LatentDataset:
        return LatentDataset(train, chain, space, views=VIEWS, seed=seed, progress=False)

    judged_frozen, labels = pooled(plain(judged, published), 1)
    judged_adapted, _ = pooled(plain(judged, space), 1)
    crossed: Callable[[int], Any] = lambda views: cross_fitted_features(  # noqa: E731
        train, chain, space, once, folds=FOLDS, seed=seed, views=views, progress=False
    )
    single, several = crossed(0), crossed(VIEWS)
    pixels = plain(judged, None)
    with torch.no_grad():
        direct = [whole(pixels[i]["image"][None])[0].numpy() for i in range(len(judged))]
    logits = {
        "frozen": logits_of(view_set(published), VIEWS, judged_frozen),
        "in_sample": logits_of(plain(train, space), 1, judged_adapted),
        "views": logits_of(view_set(space), VIEWS, judged_adapted),
        "cross_fitted": logits_of(single, 1, judged_adapted),
        "cross_fitted_views": logits_of(several, VIEWS, judged_adapted),
        "softmax": np.stack(direct).astype(float),
    }
    own = pooled(plain(train, space), 1)
    facts = {
        "train_images": len(train),
        "judged_images": len(judged),
        "adapted": space.adapted,
        "explained_by_rotation": single.explained,
        "in_sample_auc_on_its_training_images": float(
            macro_auc(own[1], softmax(logits_of(plain(train, space), 1, own[0])))
        ),
    }
    return logits, {**facts, "labels": labels.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="about so many training images, for a trial")
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    output = args.output or Path("benchmarks/results") / f"cross_fitting_{args.data.name}.json"
    colour = args.data.name.startswith("isic")
    official, validation = read_items(args.data, "train"), read_items(args.data, "val")
    result: dict[str, Any] = {"size": args.size, "epochs": args.epochs, "views": VIEWS, "folds": FOLDS, "splits": []}
    all_labels, all_logits = [], []
    for split in range(args.splits):
        start = time.time()
        thirds = split_folds(official, 3, seed=split)
        train = [item for item, third in zip(official, thirds, strict=True) if third != 0]
        train = train if args.limit is None else train[:: max(1, len(train) // args.limit)]
        judged = [item for item, third in zip(official, thirds, strict=True) if third == 0] + validation
        logits, facts = one_split(train, judged, args.size, args.epochs, split, colour)
        labels = np.array(facts.pop("labels"))
        all_labels.append(labels)
        all_logits.append(logits)
        ways = {way: measure(labels, values) for way, values in logits.items()}
        result["splits"].append(
            {"split": split, **facts, "minutes": round((time.time() - start) / 60, 1), "ways": ways}
        )
        result["mean"] = {
            way: {name: float(np.mean([each["ways"][way][name] for each in result["splits"]])) for name in ways[way]}
            for way in ways
        }
        result["against_in_sample"] = compare(all_labels, all_logits)
        replace_text(output, json.dumps(result, indent=1) + "\n")
        print(
            json.dumps({way: {n: round(v, 3) for n, v in each.items()} for way, each in ways.items()}, indent=1),
            flush=True,
        )
    print(output)


def compare(labels: list[NDArray[np.int64]], logits: list[dict[str, NDArray[np.float64]]]) -> dict[str, Any]:
    """Paired differences from ``in_sample``, the images of each split resampled; the splits' images are other ones."""
    found: dict[str, Any] = {}
    for way in logits[0]:
        rows = []
        for truth, each in zip(labels, logits, strict=True):
            a, b = softmax(each[way]), softmax(each["in_sample"])
            rows.append(
                {
                    "macro_auc": paired_difference_interval(macro_auc, truth, a, b, num_resamples=500)._asdict(),
                    "nll": paired_difference_interval(
                        negative_log_likelihood, truth, a, b, num_resamples=500
                    )._asdict(),
                }
            )
        found[way] = rows
    return found


if __name__ == "__main__":
    main()
