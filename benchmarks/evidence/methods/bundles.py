"""A trained bundle as a method: its weights of a seed classify any images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.bundles import BUNDLES
from benchmarks.evidence.data import Images, as_tensor
from benchmarks.evidence.methods.base import Prediction
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.uncertainty import fit_typicality

# Method and data set -> bundle. Seed 0 is what is shipped, the others are runs of the bundle.
FEATURES = {
    "isic2017_224": "skin_lesion_features",
    "kermany_cxr_224": "chest_xray_features",
    "busi_224": "breast_ultrasound_features",
}


class BundleMethod:
    """A diffusion classifier that a bundle holds, trained by its own commands on the training images of the protocol.

    Args:
        bundle: name of a shipped bundle.
        rule: "mean" or "vote", the bundle's own or the votes of its draws.
        settings: further settings of `open_bundle`.
    """

    def __init__(self, bundle: str, rule: str = "mean", **settings: Any) -> None:
        self.settings: dict[str, Any] = {"bundle": bundle, "rule": rule, **settings}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedBundle:
        """Open the weights of a seed and learn from validation images what is typical.

        Raises:
            ValueError: when there are no weights of the seed.
        """
        name = self.settings["bundle"]
        run = None if seed == 0 else BUNDLES / name / "runs" / f"seed_{seed}"
        more = {key: value for key, value in self.settings.items() if key not in ("bundle", "rule")}
        bundle = open_bundle(name, run=run, device="cpu", **more)
        return FittedBundle(bundle, self.settings["rule"], validation)


class FittedBundle:
    """See `BundleMethod`."""

    def __init__(self, bundle: Bundle, rule: str, validation: Images) -> None:
        self.bundle, self.rule = bundle, rule
        errors, _, evaluations = self._classify(validation)
        self.typicality = fit_typicality(errors, groups=validation.groups)
        self.facts: dict[str, Any] = {
            "parameters": sum(p.numel() for p in bundle.network.parameters()),
            "training_seconds": None,
            "evaluations": evaluations,
        }

    def predict(self, images: Images) -> Prediction:
        """Probabilities by the rule, and the typicality's distance."""
        errors, probabilities, _ = self._classify(images)
        return Prediction(probabilities.double().numpy(), self.typicality.score(errors).double().numpy())

    def _classify(self, images: Images, batch: int = 64) -> tuple[DenoisingErrors, torch.Tensor, int]:
        """Errors and probabilities of images, and the most evaluations that one took."""
        found: list[Any] = [
            self.bundle.classify(part)
            for part in tqdm(as_tensor(images).split(batch), desc=self.bundle.name, unit="batch")
        ]
        p = [one.vote_share if self.rule == "vote" else one.probabilities for one in found]
        evaluations = max(int(one.network_evaluations.max()) for one in found)
        return DenoisingErrors.concatenate([one.errors for one in found]), torch.cat(p), evaluations
