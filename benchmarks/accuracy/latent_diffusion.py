r"""A diffusion classifier on the latents of a tiny autoencoder beside one on pixels, at equal training time.

    python -m benchmarks.accuracy.latent_diffusion --data DATA/kermany_cxr_224 --autoencoder DATA/weights_taef2 \
        --work FOLDER [--seconds 150]

Chest X-rays at 128 px, normal or pneumonia. The same U-Net learns twice, for the same processor time, on the same
training images (as many of each class, drawn by the seed), with the same settings, on a grid of 16 x 16: that of the
autoencoder's latents, 32 channels scaled to deviation 1, and that of the Haar coefficients of three levels, 64
channels, which is pixel space, as the transform is orthonormal. Nothing is chosen on validation images, and no weights
but the last averaged ones are used. Encoding the training images takes time that only the first needs: it is not in
the budget and stands beside it. Score of an image: mean error as normal less mean error as pneumonia (primary), and
share of the votes; both of the same draws. AUC on the official test images with 95 % intervals by patients, and the
paired difference.

Training is kept in FOLDER. The test images are read once: with a result file the program refuses to run. Written with
it: a picture of the first test images of each class (by name), what the autoencoder keeps of them, where the latent
model sees pneumonia (red) or a normal chest (blue), and the counterfactual of the other class, decoded.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DiffusionModelUNet
from PIL import Image

from benchmarks.accuracy.equal_time import train_for
from benchmarks.bundles import RESULTS
from benchmarks.schedule import make_scheduler
from monai_diffclf.data import load_kermany_cxr
from monai_diffclf.explain import CounterfactualGenerator
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.metrics import bootstrap_interval, paired_difference_interval, roc_auc
from monai_diffclf.networks import AutoencoderSpace, load_autoencoder
from monai_diffclf.networks.nets import WaveletDiffusionUNet
from monai_diffclf.storage.atomic_file import replace_text

SIZE, BATCH, RATE, DRAWS = 128, 32, 1e-3, 11
PICTURE = Path("docs/images/latent_diffusion.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "autoencoder", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150, help="processor time of each training")
    parser.add_argument("--images", type=int, default=800, help="training images, half of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "latent_diffusion.json")
    args = parser.parse_args()
    if args.output.exists():
        raise ValueError(f"output: {args.output} is there, the test images were read for it; give another file")
    args.work.mkdir(parents=True, exist_ok=True)
    images, labels, _ = read(args.data, "train", args.images, args.seed)
    space, codes, encoding = encoded(args.autoencoder, images, args.work / "latents.pt")
    trainings = {
        "latent": train(codes, labels, args.work / "latent.pt", args.seconds, args.seed),
        "pixels": train(images, labels, args.work / "pixels.pt", args.seconds, args.seed),
    }
    report = {
        "data": "kermany_cxr_224 at 128 px, normal or pneumonia, official test set",
        "seed": args.seed,
        "training_images": len(labels),
        "seconds_of_encoding": encoding,
        "latent_scaling": space.scaling_factor,
        "draws": DRAWS,
        "training": {name: details for name, (_, details) in trainings.items()},
        **judged({name: network for name, (network, _) in trainings.items()}, space, args.data, args.seed),
    }
    replace_text(args.output, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def read(root: Path, split: str, count: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Images [N, 1, SIZE, SIZE] in [-1, 1], labels (0 normal, 1 pneumonia) and patients; all, or some of each class."""
    items = load_kermany_cxr(root, split)
    labels = np.array([int(item["label"] > 0) for item in items])
    rows = np.arange(len(items))
    if count is not None:
        order = np.random.default_rng(seed).permutation(len(items))
        rows = np.concatenate([order[labels[order] == k][: count // 2] for k in (0, 1)])
    pictures = [Image.open(items[row]["image"]).convert("L").resize((SIZE, SIZE), Image.Resampling.BOX) for row in rows]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return pixels[:, None].float() / 127.5 - 1, torch.from_numpy(labels[rows]), [items[row]["patient"] for row in rows]


def encoded(folder: Path, images: torch.Tensor, kept: Path) -> tuple[AutoencoderSpace, torch.Tensor, float]:
    """The latent space with its scaling, the latents of the training images, and the seconds these took."""
    autoencoder = load_autoencoder(folder)
    if not kept.exists():
        start = time.process_time()
        codes = AutoencoderSpace(autoencoder, channels=1).encode(images)
        torch.save({"codes": codes, "seconds": time.process_time() - start}, kept)
    stored = torch.load(kept, weights_only=True)
    factor = 1 / float(stored["codes"].double().std())
    return (
        AutoencoderSpace(autoencoder, channels=1, scaling_factor=factor),
        stored["codes"] * factor,
        float(stored["seconds"]),
    )


def make_network(channels: int) -> torch.nn.Module:
    """The U-Net on a grid of 16 x 16: on 32 channels of latents, or on one of pixels by three levels of wavelets."""
    settings: dict[str, Any] = {
        "spatial_dims": 2,
        "channels": (32, 64),
        "attention_levels": (False, True),
        "num_res_blocks": 1,
        "num_head_channels": 32,
        "norm_num_groups": 16,
        "num_class_embeds": 3,
    }
    if channels == 1:
        return WaveletDiffusionUNet(in_channels=1, levels=3, **settings)
    return DiffusionModelUNet(in_channels=channels, out_channels=channels, **settings)


def train(
    images: torch.Tensor, labels: torch.Tensor, kept: Path, seconds: float, seed: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The averaged network after so many seconds of the processor, the learning rate a cosine over them."""
    torch.manual_seed(seed)
    network = make_network(images.shape[1])
    if kept.exists():
        stored = torch.load(kept, weights_only=True)
        network.load_state_dict(stored["network"])
        return network.eval(), stored["details"]

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(images), (BATCH,))
        return images[chosen], labels[chosen]

    average, made = train_for(seconds, network, batch, rate=RATE, seed=seed, name=kept.stem)
    details = {
        "seconds": made["seconds"],
        "steps": made["steps"],
        "epochs": made["images_seen"] / len(images),
        "parameters": made["parameters"],
    }
    torch.save({"network": average.state_dict(), "details": details}, kept)
    return average, details


def judged(networks: dict[str, torch.nn.Module], space: AutoencoderSpace, data: Path, seed: int) -> dict[str, Any]:
    """AUC of both models on the test images, their difference, what the autoencoder loses; and the picture."""
    images, labels, patients = read(data, "test", None, seed)
    truth = labels.numpy()
    start = time.process_time()
    latents = space.encode(images)
    encoding = (time.process_time() - start) / len(images)
    scores: dict[str, Any] = {}
    found: dict[str, Any] = {"test_images": len(truth), "seconds_an_image_of_encoding": encoding}
    for name, tensor in (("latent", latents), ("pixels", images)):
        start = time.process_time()
        result = DiffusionClassifierInferer(
            make_scheduler(), 2, num_draws=DRAWS, rule="mean", batch_size=64, seed=seed
        ).classify(tensor, networks[name])
        spent = (time.process_time() - start) / len(images)
        scores[name] = (result.mean_error[:, 0] - result.mean_error[:, 1]).numpy()
        found[name] = {
            "auc": bootstrap_interval(roc_auc, truth, scores[name], strata=truth, groups=patients)._asdict(),
            "auc_of_votes": bootstrap_interval(
                roc_auc, truth, result.vote_share[:, 1].numpy(), strata=truth, groups=patients
            )._asdict(),
            "seconds_an_image": spent,
        }
    found["latent_less_pixels"] = paired_difference_interval(
        roc_auc, truth, scores["latent"], scores["pixels"], groups=patients
    )._asdict()
    rows = torch.cat([(labels == k).nonzero()[:2, 0] for k in (0, 1)])
    found["psnr_of_shown"] = draw(images[rows], labels[rows], networks["latent"], space, seed)
    return found


def draw(
    images: torch.Tensor, labels: torch.Tensor, network: torch.nn.Module, space: AutoencoderSpace, seed: int
) -> float:
    """A row an image: itself, decoded, map, counterfactual; returns the PSNR of the decoded ones in dB."""
    decoded = space.decode(space.encode(images))
    inferer = DiffusionClassifierInferer(make_scheduler(), 2, num_draws=51, rule="mean", latent_space=space, seed=seed)
    maps = inferer.error_maps(images, network)
    evidence = (maps[:, 0] - maps[:, 1]).numpy()  # above 0 where pneumonia fits better
    evidence = evidence / np.abs(evidence).max((1, 2), keepdims=True)
    pair = CounterfactualGenerator(make_scheduler(), 2, latent_space=space, seed=seed)(images, network, source=labels)
    rows = []
    for n in range(len(images)):
        grey = [np.repeat(unit(each[n]), 3, 2) for each in (images, decoded, pair.counterfactual)]
        colour = np.stack([np.clip(evidence[n], 0, 1), np.zeros((SIZE, SIZE)), np.clip(-evidence[n], 0, 1)], 2)
        overlay = grey[0] * 0.6 + 0.4 * colour
        rows.append(np.concatenate([grey[0], grey[1], overlay, grey[2]], 1))
    picture = Image.fromarray(np.uint8(255 * np.concatenate(rows).clip(0, 1)))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * 3 // 2, picture.height * 3 // 2), Image.Resampling.BICUBIC).save(PICTURE)
    return float(10 * torch.log10(4 / (decoded - images).square().mean()))


def unit(image: torch.Tensor) -> Any:
    """An image [1, H, W] in [-1, 1] as an array [H, W, 1] in [0, 1]."""
    return ((image[0] + 1) / 2).clamp(0, 1).numpy()[..., None]


if __name__ == "__main__":
    main()
