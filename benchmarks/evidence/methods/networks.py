"""MONAI's ResNet-18 and DenseNet-121 from scratch, trained until validation stops to rise."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.data import DataLoader, Dataset
from monai.networks.nets import DenseNet121, resnet18
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from benchmarks.evidence.data import Images, as_tensor
from benchmarks.evidence.measures import MEASURES
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.protocol import RESULTS, data_settings
from monai_diffclf.handlers import MovingAverage
from monai_diffclf.storage.atomic_file import replaced

CHOSEN = RESULTS / "chosen.json"
# What `choose` does not choose is as in the bundles' recipe.
_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "augmentation": "recipe",
    "batch_size": 64,
    "weight_decay": 0.05,
    "warmup_steps": 100,
    "moving_average": 0.995,
    "least_epochs": 12,
    "most_epochs": 60,
    "precision": "bfloat16",
}


class NetworkMethod:
    """A network from scratch, AdamW with a constant learning rate and a moving average of the weights.

    Classes are drawn equally often. After each epoch the averaged weights are judged on validation; training ends when
    the best epoch is older than a third of the epochs made, and the best one counts.

    Args:
        architecture: "resnet18" or "densenet121".
        data: data set of the protocol.
        changes: settings other than those that were chosen.
    """

    def __init__(self, architecture: str, data: str, **changes: Any) -> None:
        chosen = read_chosen().get(f"{architecture}/{data}", {}).get("settings", {})
        self.settings: dict[str, Any] = {"architecture": architecture, "data": data, **_DEFAULTS, **chosen, **changes}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedNetwork:
        """Train, or go on with what a folder holds; see the class."""
        training = _Training(self.settings, train, validation, seed, folder / "checkpoint.pt")
        training.run()
        return FittedNetwork(training.best_network(), training.facts())


def read_chosen() -> dict[str, Any]:
    """What was chosen on selection images: "ARCHITECTURE/DATA" -> settings and the AUC of each candidate."""
    content: dict[str, Any] = json.loads(CHOSEN.read_text()) if CHOSEN.is_file() else {}
    return content


class FittedNetwork:
    """A trained network; the energy of its logits is its score of unlikeness (Liu et al., 2020)."""

    def __init__(self, network: torch.nn.Module, facts: dict[str, Any]) -> None:
        self.network, self.facts = network, facts

    def predict(self, images: Images) -> Prediction:
        """Softmax probabilities and energies."""
        logits = predict_logits(self.network, images)
        energy = -torch.logsumexp(logits, 1)
        return Prediction(torch.softmax(logits, 1).numpy(), energy.numpy())


def build(architecture: str, data: str) -> torch.nn.Module:
    """A network for the images of a data set; the ResNet's stem is that of the bundles for 28 and 64 px."""
    settings = data_settings(data)
    channels, classes = settings["channels"], len(settings["classes"])
    if architecture == "densenet121":
        if settings["size"] < 64:
            raise ValueError(
                f"data: expected images of 64 px or more for densenet121, got {settings['size']} of {data}"
            )
        return DenseNet121(spatial_dims=2, in_channels=channels, out_channels=classes)
    if architecture != "resnet18":
        raise ValueError(f"architecture: expected resnet18 or densenet121, got {architecture!r}")
    small = settings["size"] < 64
    return resnet18(
        spatial_dims=2, n_input_channels=channels, num_classes=classes,
        conv1_t_size=3 if small else 7, conv1_t_stride=2, no_max_pool=small,
    )  # fmt: skip


def augmentation(data: str, strength: str) -> list[mt.Transform]:
    """The bundles' augmentation ("recipe"), moves alone ("light") or none, on images [C, H, W] in [0, 1]."""
    if strength == "none":
        return []
    skin, size = data.startswith("isic"), data_settings(data)["size"]
    moves: list[Any] = [mt.RandFlip(0.5, spatial_axis=1)]
    if skin:
        moves += [mt.RandRotate90(0.75, max_k=3)]
    turn, scale, shift = (0.4, 0.2, size / 16) if skin else (0.2, 0.18, size / 9.4)
    moves += [
        mt.RandAffine(
            1.0, rotate_range=turn, scale_range=[scale] * 2, translate_range=[shift] * 2, padding_mode="reflection"
        )
    ]
    if strength == "light":
        return moves
    often, gamma, gain, offset = (0.5, (0.8, 1.25), 0.2, 0.05) if skin else (1.0, (0.67, 1.5), 0.3, 0.08)
    return [
        *moves,
        mt.RandAdjustContrast(often, gamma=gamma),
        mt.RandScaleIntensityFixedMean(often, factors=gain),
        mt.RandShiftIntensity(offset, prob=often),
    ]


def predict_logits(network: torch.nn.Module, images: Images, batch: int = 128) -> torch.Tensor:
    """Logits of images [N, K], float64."""
    network.eval()
    found, device = [], next(network.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for pixels in as_tensor(images).split(batch):
            found.append(network(pixels.to(device, memory_format=torch.channels_last)).double().cpu())
    return torch.cat(found)


class _Training:
    def __init__(self, settings: dict[str, Any], train: Images, validation: Images, seed: int, path: Path) -> None:
        self.settings, self.train, self.validation, self.seed, self.path = settings, train, validation, seed, path
        torch.manual_seed(seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build(settings["architecture"], settings["data"]).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"]
        )
        self.average = MovingAverage(network, settings["moving_average"], settings["warmup_steps"])
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.step, self.seconds = 0, 0.0
        self.parts = {"network": self.network, "optimizer": self.optimizer, "average": self.average}
        if path.is_file():
            self._resume()

    def run(self) -> None:
        most, least = self.settings["most_epochs"], self.settings["least_epochs"]
        with tqdm(total=most, initial=len(self.history), desc=self.path.parent.name) as bar:
            while len(self.history) < most and not at_plateau([row["auc"] for row in self.history], least):
                start = time.perf_counter()
                loss = self._epoch(len(self.history))
                auc = self._judge()
                self.seconds += time.perf_counter() - start
                if auc > max((row["auc"] for row in self.history), default=-1.0):
                    self.best = {k: v.detach().cpu().clone() for k, v in self.average.ema_model.state_dict().items()}
                self.history.append({"loss": round(loss, 4), "auc": round(auc, 5)})
                self._save()
                bar.set_postfix(loss=loss, auc=auc)
                bar.update()

    def best_network(self) -> torch.nn.Module:
        network = build(self.settings["architecture"], self.settings["data"])
        network.load_state_dict(self.best)
        return network.to(self.device, memory_format=torch.channels_last).eval()

    def facts(self) -> dict[str, Any]:
        return {
            "training_seconds": round(self.seconds, 1),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "evaluations": 1,
            "epochs": len(self.history),
            "history": self.history,
        }

    def _epoch(self, epoch: int) -> float:
        loader = self._loader(epoch)
        self.network.train()
        total = 0.0
        for batch in loader:
            rate = self.settings["learning_rate"] * min(1.0, (self.step + 1) / max(1, self.settings["warmup_steps"]))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            image = batch["image"].to(self.device, memory_format=torch.channels_last)
            reduced = self.settings["precision"] == "bfloat16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
                logits = self.network(image)
            loss = cross_entropy(logits.float(), batch["label"].to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.average.update()
            self.step += 1
            total += loss.item()
        return total / len(loader)

    def _loader(self, epoch: int) -> DataLoader:
        """One epoch of images, of each class equally often; a function of seed and epoch."""
        seed = 1000 * self.seed + epoch
        chain = mt.Compose(augmentation(self.settings["data"], self.settings["augmentation"]))
        chain.set_random_state(seed)

        def item(row: dict[str, Any]) -> dict[str, Any]:
            pixels = torch.from_numpy(row["image"]).permute(2, 0, 1).float() / 255
            return {"image": torch.as_tensor(chain(pixels)).clamp(0, 1) * 2 - 1, "label": row["label"]}

        rng = np.random.default_rng(seed)
        rows = balanced_rows(self.train.labels, rng, self.settings["batch_size"])
        items = [{"image": self.train.pixels[row], "label": int(self.train.labels[row])} for row in rows]
        return DataLoader(Dataset(items, item), batch_size=self.settings["batch_size"], num_workers=0)

    def _judge(self) -> float:
        logits = predict_logits(self.average.ema_model, self.validation)
        return float(MEASURES["macro_auc"](self.validation.labels, torch.softmax(logits, 1).numpy()))

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        own = {"history": self.history, "best": self.best, "step": self.step, "seconds": self.seconds}
        with replaced(self.path) as temporary:
            torch.save({**state, **own, "settings": self.settings, "images": self.train.digest}, temporary)

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        if state["settings"] != self.settings or state["images"] != self.train.digest:
            raise ValueError(f"folder: expected {self.path} to be of these settings and images; remove it")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.history, self.best = state["history"], state["best"]
        self.step, self.seconds = state["step"], state["seconds"]


def at_plateau(curve: list[float], least: int) -> bool:
    """Whether the best of the epochs is older than a third of them.

    Example:
        >>> at_plateau([0.5, 0.7, 0.9, 0.8], least=3), at_plateau([0.5, 0.7, 0.9, 0.8, 0.85], least=3)
        (False, True)
    """
    return len(curve) >= least and len(curve) - 1 - int(np.argmax(curve)) > len(curve) / 3


def balanced_rows(labels: NDArray[np.int64], rng: np.random.Generator, batch: int) -> NDArray[np.int64]:
    """As many rows as there are labels, in whole batches, each class equally often, drawn with replacement.

    Example:
        >>> rows = balanced_rows(np.array([0] * 90 + [1] * 10), np.random.default_rng(0), batch=10)
        >>> len(rows), bool(40 <= (rows >= 90).sum() <= 60)
        (100, True)
    """
    weights = (1 / np.bincount(labels)[labels]).astype(np.float64)
    count = max(batch, len(labels) // batch * batch)
    return rng.choice(len(labels), count, p=weights / weights.sum())
