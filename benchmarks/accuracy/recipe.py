"""Are the settings that `new-bundle` chooses good ones, and is the diffusion model above the floor?

    python -m benchmarks.accuracy.recipe [--data NAME=FOLDER ...] [--variants recipe quarter ...] [--output FILE]

For each data set what `new-bundle` does (look, choose, write the bundle), then a training by the bundle's own
configuration, judged on the validation images alone: macro AUC and accuracy of each rule by the same noise draws, and
the floor of simple classifiers on the same images. ``seconds`` are of the processor, on one thread. Without ``--data``
two sets are drawn: ``example_scans`` (monai_diffclf.data.example_scans; easy) and ``textures`` (six in ellipses
that are turned freely, which logistic regression on pixels cannot tell; hard).

Each variant changes the recipe in one respect: a quarter and half of the steps, a network on 8 x 8 inside, no
augmentation. ``--runs`` takes bundles that the commands have trained and evaluated. Results are merged into the
output: a set and variant that is there already is measured anew.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from monai_diffclf.bundle import Bundle, BundleSettings, open_bundle, write_bundle
from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.data.example_scans import write_example_scans
from monai_diffclf.metrics import classification_metrics
from monai_diffclf.recipe import Floor, Recipe, choose_recipe, look_at, pixel_floor
from monai_diffclf.run import run_bundle
from monai_diffclf.storage import load_errors
from monai_diffclf.storage.atomic_file import replace_text

SMALLER = {
    "denoiser#levels": 3,
    "denoiser#channels": [64, 64],
    "denoiser#attention_levels": [False, True],
    "denoiser#num_res_blocks": 1,
}
STILL = {"augmentation#affine#prob": 0.0, "augmentation#contrast#prob": 0.0}
VARIANTS: dict[str, tuple[float, dict[str, Any]]] = {
    "recipe": (1.0, {}),
    "half": (0.5, {}),
    "quarter": (0.25, {}),
    "inside_8": (1.0, SMALLER),
    "no_augmentation": (1.0, STILL),
}
RULES = {"mean": ("mean", "uniform", 0.27), "mean_min_snr": ("mean", "min_snr", 0.05), "vote": ("vote", "uniform", 1.0)}


def write_textures(folder: Path, images: int = 1800, size: int = 64, seed: int = 0) -> None:
    """Six textures of equal mean and contrast in an ellipse anywhere, turned freely, with noise."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / (size / 2)
    for n in range(images):
        kind = n % 6
        angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.2, 0.2, 2))
        u, v = x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)
        u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
        u, v, phase = u / stretch[0], v / stretch[1], rng.uniform(0, 2 * np.pi)
        waves = (np.sin(30 * u + phase), np.sin(16 * u + phase), np.sin(25 * np.hypot(u, v) + phase))
        texture = waves[kind - 3] if kind > 2 else gaussian_filter(rng.normal(size=u.shape), (0.7, 1.6, 3.2)[kind])
        body = (u / 0.75) ** 2 + (v / 0.6) ** 2 < 1
        image = body * (0.45 + 0.12 * texture / texture.std()) + rng.normal(0, 0.06, u.shape)
        path = folder / f"texture_{kind}" / f"{n:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(path)


def make_variant(recipe: Recipe, name: str) -> Recipe:
    share, changes = VARIANTS[name]
    epochs = max(1, round(share * recipe.settings["max_epochs"]))
    settings = {**recipe.settings, "max_epochs": epochs, "val_interval": epochs, **changes}
    return replace(recipe, settings=settings)


def measure(data: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One training; what it reaches on validation."""
    seen = look_at(data, **options)
    recipe = make_variant(choose_recipe(seen), name)
    with tempfile.TemporaryDirectory() as place:
        settings = BundleSettings(
            name="study",
            classes=seen.classes,
            channels=recipe.channels,
            image_size=recipe.image_size,
            values={**recipe.settings, "dataset_dir": data.resolve(), **options},
            configs=recipe.configs,
        )
        folder = write_bundle(Path(place) / "study", settings)
        start = time.process_time()
        trained = run_bundle(folder, ["train.json"], {"progress": False, "audit": False})
        seconds = time.process_time() - start
        run = Path(trained.get_parsed_content("output_dir"))
        judged = open_bundle(folder, "train.json", "evaluate.json", run=run, progress=False)
        items = judged.get("validate#datalist")
        images, labels = judged.read(items), np.array([item["label"] for item in items])
        start = time.process_time()
        errors = judged.inferer.compute_errors(images, judged.network)
        judging = time.process_time() - start
        floor = pixel_floor(judged.get("train#datalist"), items, seen.classes, read=lambda item: judged.read(item)[0])
    counts = [seen.count("train"), seen.count("validation")]
    facts = summarise(judged, counts, errors, labels, floor)
    return {**facts, "seconds": {"training": round(seconds), "validation": round(judging)}}


def measure_run(folder: Path) -> dict[str, Any]:
    """The same of a bundle that the commands new-bundle, train and evaluate made, by its first run."""
    run = folder / "runs" / "seed_0"
    judged = open_bundle(folder, "train.json", "evaluate.json", run=run, progress=False)
    stored = load_errors(run / "evaluation" / "errors_validation_seed_0.npz")
    floor = json.loads((run / "floor.json").read_text())["validation"]
    del floor["pixels"]
    counts = [len(judged.get("train#datalist")), len(stored.labels)]
    return {**summarise(judged, counts, stored.errors, stored.labels.numpy(), floor), "seconds": None}


def summarise(bundle: Bundle, counts: list[int], errors: DenoisingErrors, labels: Any, floor: Floor) -> dict[str, Any]:
    """What each rule makes of the errors of the validation images, with the settings of the training."""
    batch = bundle.get("batch_size")
    found: dict[str, Any] = {"images": counts, "image_size": list(bundle.image_size), "batch_size": batch}
    found |= {"steps": bundle.get("max_epochs") * (counts[0] // batch), "num_draws": errors.values.shape[2]}
    for rule, (kind, weighting, temperature) in RULES.items():
        result = classify_errors(errors, kind, weighting=weighting, temperature=temperature)
        metrics = classification_metrics(labels, result.probabilities.double().cpu().numpy(), num_resamples=100)
        found[rule] = {each: metrics[each]["value"] for each in ("auc", "accuracy", "balanced_accuracy")}
    return {
        **found,
        "floor": {model: {key: value or 0.0 for key, value in each.items()} for model, each in floor.items()},
    }


def markdown(results: dict[str, Any]) -> str:
    """The table of docs/recipe.md."""
    lines = ["| images, training / validation | variant | steps | seconds | macro AUC | accuracy | floor, macro AUC |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for name, variants in results.items():
        for variant, found in variants.items():
            auc, accuracy = found["mean_min_snr"]["auc"], found["mean_min_snr"]["accuracy"]
            floor = max(each["macro_auc"] for each in found["floor"].values())
            seconds = found["seconds"]["training"] if found["seconds"] else "-"
            lines.append(
                f"| {name}, {found['images'][0]} / {found['images'][1]} | {variant} | {found['steps']} | "
                f"{seconds} | {auc:.2f} | {accuracy:.2f} | {floor:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument(
        "--option", nargs="+", default=[], metavar="ID=VALUE", help="how --data are read: label_type=index"
    )
    parser.add_argument("--runs", nargs="+", default=[], metavar="NAME=BUNDLE", help="trained and evaluated already")
    parser.add_argument("--sets", nargs="*", default=["example_scans", "textures"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/recipe.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    options: dict[str, Any] = dict(each.split("=", 1) for each in args.option)
    if "classes" in options:
        options["classes"] = options["classes"].split(",")
    with tempfile.TemporaryDirectory() as place:
        sets = {name: Path(folder) for name, folder in (each.split("=", 1) for each in args.data)}
        writers = {"example_scans": write_example_scans, "textures": write_textures}
        for name in [] if sets or args.runs else args.sets:
            writers[name](Path(place) / name)
            sets[name] = Path(place) / name
        for name, folder in sets.items():
            for variant in args.variants:
                own = {"patient_pattern": r"(P\d+)_"} if name == "example_scans" else options
                found = measure(folder, variant, own)
                keep(args.output, name, variant, found)
    for each in args.runs:
        name, folder = each.split("=", 1)
        keep(args.output, name, "recipe, by the commands", measure_run(Path(folder)))
    print(markdown(json.loads(args.output.read_text())))


def keep(output: Path, name: str, variant: str, found: dict[str, Any]) -> None:
    """Merge what was measured into the results."""
    print(name, variant, json.dumps(found), flush=True)
    known = json.loads(output.read_text()) if output.is_file() else {}
    known.setdefault(name, {})[variant] = found
    replace_text(output, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
