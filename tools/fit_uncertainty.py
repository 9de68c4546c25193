"""Learn from a bundle's validation errors how sure it may be: calibration, prediction sets, typicality.

    python -m tools.fit_uncertainty bundles/pneumonia_xray_diffusion [--dataset_dir DATA] [--run RUN]

Writes ``configs/uncertainty.json`` of the bundle, for the rules mean and vote, from the validation errors that its
evaluation left in ``docs/evaluation`` and the settings of its ``evaluate.json``. The method of calibration is the one
with the smallest cross-fitted negative log-likelihood: every patient is judged by fits without them. Prints these.
With DATA, the bundle's data set, typicality also knows where errors usually lie: coarse error maps of the validation
images are made once and kept with the errors; and their mean image is stored, by which inverted images are found.
With RUN, the folder of a training that was evaluated, it is all about that run's weights, classes and errors, and goes
to ``RUN/uncertainty.json``, which inference takes as ``--uncertainty``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.bundles import read_config
from monai_diffclf.classification import classify_errors
from monai_diffclf.engines import compute_dataset_errors
from monai_diffclf.networks import network_hash
from monai_diffclf.storage import FittedUncertainty, StoredErrors, load_errors, save_uncertainty
from monai_diffclf.storage.mean_image_file import MEAN_IMAGE, load_mean_image
from monai_diffclf.uncertainty import fit_calibration, fit_conformal, fit_mean_image
from monai_diffclf.uncertainty.typicality import fit_typicality, group_codes

RULES = ("mean", "vote")
GRID = 4  # cells a side of the error maps that typicality looks at
METHODS = ("temperature", "beta", "isotonic")


def cross_fitted_loss(
    probabilities: torch.Tensor, labels: torch.Tensor, groups: np.ndarray, method: str, repeats: int = 5
) -> float:
    """Mean negative log-likelihood, in nats, of images calibrated by fits without their patients."""
    losses = []
    for seed in range(repeats):
        calibrated = torch.empty_like(probabilities)
        for fit, held in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(groups, labels, groups):
            calibration = fit_calibration(probabilities[fit], labels[fit], method=method)
            calibrated[held] = calibration(probabilities[held])
        losses.append(log_loss(labels.numpy(), calibrated.numpy(), labels=range(probabilities.shape[1])))
    return float(np.mean(losses))


@dataclass(frozen=True)
class Fit:
    """What is fitted to and where it goes."""

    errors: Path
    target: Path
    settings: dict[str, Any]


def of_bundle(bundle: Path, seed: int) -> Fit:
    """The weights that a bundle ships."""
    errors = bundle / "docs" / "evaluation" / f"errors_validation_seed_{seed}.npz"
    return Fit(errors, bundle / "configs" / "uncertainty.json", {"checkpoint": str(bundle / "models" / "model.pt")})


def of_run(run: Path) -> Fit:
    """The weights of a training, with its classes and images of any size."""
    note = run / "model.json"
    if not note.is_file():
        raise ValueError(f"run: expected the folder of a training, which holds model.json, got {run}")
    content = json.loads(note.read_text(encoding="utf-8"))
    seed, classes = content["training"]["seed"], content["model"]["classes"]
    errors = run / "evaluation" / f"errors_validation_seed_{seed}.npz"
    if not errors.is_file():
        raise ValueError(f"run: expected the validation errors {errors}, found none; run the evaluation")
    settings = {"checkpoint": str(run / "model.pt"), "classes": classes, "resize": True}
    return Fit(errors, run / "uncertainty.json", settings)


def check_network(stored: StoredErrors, network: str, path: Path) -> None:
    """Refuse errors of another network than the bundle's."""
    found = stored.provenance.get("network")
    if found is None:
        warnings.warn(f"{path} does not say which network made its errors; taken to be the bundle's", stacklevel=2)
    elif found != network:
        raise ValueError(
            f"{path}: expected errors of the bundle's network {network}, got those of {found}; evaluate the bundle anew"
        )


def with_maps(stored: StoredErrors, path: Path, config: ConfigParser) -> StoredErrors:
    """The stored errors with coarse error maps of their images, made by the bundle's network and kept in the file."""
    network, inferer = (config.get_parsed_content(f"evaluate#{name}") for name in ("network", "inferer"))
    dataset = config.get_parsed_content("validate#dataset")
    made = compute_dataset_errors(dataset, network, inferer=inferer, description="maps", grid=GRID)
    if sorted(made.keys) != sorted(stored.keys):
        raise ValueError(
            f"dataset_dir: expected the validation images of {path}, got others in {config['dataset_dir']}"
        )
    # A key names the pixels or the file: images that share it share their map.
    place = {key: index for index, key in enumerate(made.keys)}
    maps = None if made.maps is None else made.maps[[place[key] for key in stored.keys]]
    complete = replace(stored, provenance=stored.provenance or made.provenance, maps=maps)
    complete.save(path)
    return complete


def mean_image(config: ConfigParser, network: str, path: Path, with_images: bool) -> dict[str, Any]:
    """The mean of the validation images, as a note; without the images the one that the file has for the network."""
    made_by = {"network": network}
    if with_images:
        images = torch.stack([torch.as_tensor(item["image"]) for item in config.get_parsed_content("validate#dataset")])
        return {MEAN_IMAGE: fit_mean_image(images, provenance=made_by).to_dict()}
    known = load_mean_image(path) if path.is_file() else None
    return {} if known is None or known.provenance != made_by else {MEAN_IMAGE: known.to_dict()}


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--dataset_dir", help="the data set, to make error maps of the validation images")
    parser.add_argument(
        "--errors", type=Path, help="validation errors of the shipped weights; default: those of --seed"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training whose weights the bundle ships")
    parser.add_argument("--confidence", type=float, default=0.9, help="of the prediction sets")
    parser.add_argument("--method", choices=METHODS, help="of the calibration; default: the best in cross-fitting")
    parser.add_argument("--run", type=Path, help="folder of an evaluated training, to fit to its weights instead")
    return parser, parser.parse_args()


def main() -> None:
    parser, args = parse()
    try:
        fit_bundle(args)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def fit_bundle(args: argparse.Namespace) -> None:
    """Fit and write, as the arguments say."""
    fit = of_run(args.run) if args.run else of_bundle(args.bundle, args.seed)
    path = args.errors or fit.errors
    stored = load_errors(path)
    settings = {**fit.settings, **({"dataset_dir": args.dataset_dir} if args.dataset_dir else {})}
    config = read_config(args.bundle, "train.json", "evaluate.json", progress=False, **settings)
    settings = {name: config.get_parsed_content(name) for name in ("weighting", "temperature")}
    network = network_hash(config.get_parsed_content("evaluate#network"))
    check_network(stored, network, path)
    if args.dataset_dir and stored.maps is None:
        stored = with_maps(stored, path, config)
    groups = group_codes(stored.patients, len(stored.keys))
    # From plain values only: a file cannot hold weights, and a reader could not compare them.
    made_by = {**stored.provenance, "network": network, "num_draws": stored.errors.num_draws}
    made_by |= {"classes": list(config["classes"]), "image_size": list(config["image_size"])}
    made_by |= {"weighting": str(settings["weighting"]), "temperature": settings["temperature"]}
    typicality = fit_typicality(stored.errors, error_maps=stored.maps, grid=GRID, groups=stored.patients)
    fitted, losses = {}, {}
    for rule in RULES:
        pred = classify_errors(stored.errors, rule, **settings).probabilities
        losses[rule] = {method: cross_fitted_loss(pred, stored.labels, groups, method) for method in METHODS}
        losses[rule]["none"] = float(log_loss(stored.labels.numpy(), pred.numpy(), labels=range(pred.shape[1])))
        method = args.method or min(METHODS, key=lambda name: losses[rule][name])
        fitted[rule] = FittedUncertainty(
            rule,
            fit_calibration(pred, stored.labels, method=method),
            fit_conformal(pred, stored.labels, confidence=args.confidence),
            typicality,
            made_by,
        )
    notes = {"images": len(stored.keys), "cross_fitted_loss": losses}
    mean = mean_image(config, network, fit.target, args.dataset_dir is not None)
    save_uncertainty(fit.target, fitted, notes=notes | mean)
    print(json.dumps(notes | {"methods": {rule: fit.calibration.method for rule, fit in fitted.items()}}, indent=1))


if __name__ == "__main__":
    main()
