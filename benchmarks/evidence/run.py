"""Fit a method on a data set and test it, under the conditions of the protocol.

    python -m benchmarks.evidence.run --methods linear_probe shrunken_lda --data isic2017_224 --conditions primary

Each result is written as soon as it is there; what is there is not made again. ``--validate`` fits on the development
part and prints the macro AUC on selection images; without it test sets are opened, and the ledger says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.evidence import corruptions
from benchmarks.evidence.conditions import (
    FEW_DRAWS,
    KNOWING_TRAINING,
    PRECONDITIONED,
    SHIPPED,
    change_test,
    change_training,
    trained_as,
)
from benchmarks.evidence.data import Images, load, load_test
from benchmarks.evidence.ledger import open_test
from benchmarks.evidence.measures import MEASURES
from benchmarks.evidence.methods import Fitted, Prediction, make_method
from benchmarks.evidence.protocol import ROOT, protocol
from benchmarks.evidence.results import result_path, write_result

WORK = ROOT / "runs" / "evidence"


def conditions_of(name: str) -> list[str]:
    """All conditions of a comparison, as result files name them.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> conditions_of("label_noise")
        ['label_noise/0.1', 'label_noise/0.2', 'label_noise/0.4']
    """
    settings = protocol()
    few, many = (settings["comparisons"]["list"][part]["fractions"] for part in ("few_images", "more_images"))
    known = {
        "primary": ["primary"],
        "learning_curve": [f"learning_curve/{fraction}" for fraction in [*few, *many] if fraction < 1],
        "label_noise": [f"label_noise/{share}" for share in settings["comparisons"]["list"]["label_noise"]["shares"]],
        "shortcut": ["shortcut"],
        "corruption": [f"corruption/{k}/{s}" for k, values in settings["corruptions"].items() for s in values],
        "other_kinds": ["other_kinds"],
        "few_draws": [FEW_DRAWS],  # added later, as are the next
        "other_kinds/training": [KNOWING_TRAINING],
        "longer": ["longer", f"longer/{FEW_DRAWS}"],
        "preconditioned": [PRECONDITIONED],
        "shipped": [SHIPPED, f"{SHIPPED}/{FEW_DRAWS}"],
    }
    if name not in known:
        raise ValueError(f"conditions: expected some of {', '.join(known)}, got {name!r}")
    return known[name]


def training_folder(data: str, step: str, method_name: str, condition: str, seed: int) -> Path:
    """Where a method's training on the images of a condition lies."""
    return WORK / "models" / data / step / method_name / condition.replace("/", "_") / f"seed_{seed}"


def run(method_name: str, data: str, seed: int, conditions: Sequence[str], step: str = "final") -> list[Path]:
    """Make the results of one seed that are not there yet."""
    split = step if step.startswith("fold") else "test"
    missing = [c for c in conditions if not result_path(data, split, method_name, c, seed).is_file()]
    written = []
    for trained in dict.fromkeys(map(trained_as, missing)):
        method = make_method(method_name, data)
        train, validation = change_training(trained, *load(data, step), seed)
        fitted = method.fit(train, validation, seed, training_folder(data, step, method_name, trained, seed))
        on_validation = cache(partial(fitted.predict, validation))  # the same under every condition of the test
        for condition in (c for c in missing if trained_as(c) == trained):
            record = {"data": data, "split": split, "method": method_name, "condition": condition, "seed": seed}
            asked = _as_asked(fitted, condition, method_name, train)
            written.append(_test(record, method.settings, asked, validation, on_validation))
            print(written[-1], flush=True)
    return written


def _as_asked(fitted: Fitted, condition: str, method_name: str, train: Images) -> Fitted:
    """The fitted method, knowing what the condition gives it; before an opening, which could not be taken back."""
    needed = {KNOWING_TRAINING: "knowing_training"}.get(condition, "few_draws" if condition.endswith(FEW_DRAWS) else "")
    if needed and not hasattr(fitted, needed):
        raise ValueError(f"conditions: expected a diffusion classifier for {condition}, got {method_name}")
    return fitted.knowing_training(train) if condition == KNOWING_TRAINING else fitted  # type: ignore[attr-defined]


def _test(
    record: dict[str, Any],
    settings: dict[str, Any],
    fitted: Fitted,
    validation: Images,
    on_validation: Callable[[], Prediction],
) -> Path:
    """Open the test set for one condition and write what a fitted method says of it."""
    few = record["condition"].endswith(FEW_DRAWS)
    if not few:
        on_validation()  # a failure here costs no opening
    names = ("data", "method", "seed")
    places = {"split": record["split"], "condition": record["condition"]}
    opening = open_test(*(record[name] for name in names), settings, **places)
    test = change_test(record["condition"], load_test(opening))
    if few:
        found, known, draws = fitted.few_draws(test)  # type: ignore[attr-defined]
    else:
        found, known, draws = fitted.predict(test), on_validation(), None
    kinds = _unlike(fitted, test, record["data"]) if record["condition"].startswith("other_kinds") else None
    line = {**record, "settings": settings, "facts": fitted.facts, "opening": opening.line()}
    return write_result(line, found, known, (test, validation), kinds, draws)


def _unlike(fitted: Fitted, test: Images, data: str) -> dict[str, NDArray[np.float64]]:
    """Unlikeness of images of other kinds; {} where the method has no such score."""
    found = {}
    for name, images in other_kinds(test, data).items():
        score = fitted.predict(images).unlikeness
        if score is not None:
            found[name] = score
    return found


def other_kinds(test: Images, data: str) -> dict[str, Images]:
    """Training images of the other two sets, and test images that no longer look like any."""
    count = protocol()["other_kinds"]["images_of_each"]
    kinds = {}
    for other in protocol()["comparisons"]["data"]:
        if other != data:
            train, _ = load(other)
            chosen = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[:count]))
            kinds[f"from_{other}"] = chosen.with_pixels(_channels(chosen.pixels, test.pixels.shape[3]))
    for change in (corruptions.inverted, corruptions.shuffled, corruptions.noise_image):
        kinds[change.__name__] = test.with_pixels(np.stack([change(image) for image in test.pixels]))
    return kinds


def _channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Images [N, H, W, c] in grey or colour."""
    if pixels.shape[3] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=3)
    grey = pixels @ np.asarray([0.299, 0.587, 0.114])
    return np.rint(grey)[..., None].astype(np.uint8)


def validate(method_name: str, data: str, seed: int) -> dict[str, Any]:
    """Macro AUC on the selection images of a method that was fitted on the development part; opens nothing."""
    method = make_method(method_name, data)
    train, selection = load(data, "development")
    folder = training_folder(data, "development", method_name, "primary", seed)
    found = method.fit(train, selection, seed, folder).predict(selection).probabilities
    names = ("macro_auc", "balanced_accuracy", "log_loss")
    measured = {name: round(float(MEASURES[name](selection.labels, found)), 4) for name in names}
    return {"data": data, "method": method_name, "seed": seed, "selection": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--conditions", nargs="+", default=["primary"])
    parser.add_argument("--step", default="final", help="final, or fold0 to fold4")
    parser.add_argument("--validate", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    conditions = [condition for name in args.conditions for condition in conditions_of(name)]
    for data, method, seed in itertools.product(args.data, args.methods, args.seeds):
        if args.validate:
            print(json.dumps(validate(method, data, seed)), flush=True)
        else:
            run(method, data, seed, conditions, args.step)


if __name__ == "__main__":
    main()
