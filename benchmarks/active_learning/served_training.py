"""Does training from labels improve a served model? Images of another source, labels and training by REST.

    python -m benchmarks.active_learning.served_training [--data ../shared/data] [--part development] [--output FILE]

The protocol, committed before the part ``final`` is run, is `PROTOCOL` and this text.

- Model: ``pneumonia_xray_diffusion`` with its shipped weights, served by the MONAI Label app as it is started.
- Images: the X-rays of its own hospital as another source would give them: squashed to a square instead of cropped,
  224 px, unsharp masked (`other_source.as_other_source`, ``PROTOCOL["source"]``). None was in the model's training,
  **no test image is read** (`other_source.parts`). The source was chosen on 63 images of the part ``development``, the
  first of four that cost the served model much of its AUC; the defaults of ``/train/`` were not chosen anew. What is
  reported is of ``final``, which has other patients and was not looked at before.
- Patients are divided by a hash of their names: two thirds may be labelled, the images of the others judge.
- A seed draws images of the first part at random, the draw repeated until the server takes the first 50 labels (it
  needs 5 of each class to train on and 3 to judge by); 50, 100 and 200 labels are the first of the same draw. It is the
  seed of the training, too. Labels are the table's, given by ``PUT /datastore/label``; then ``POST /train/MODEL`` with
  the seed and nothing else, so with the defaults. Each training begins with the shipped weights
  (``PUT /train/MODEL/weights?version=bundle`` before it). Seeds 0, 1, 2.
- Judged: AUC on the images that judge, before (the shipped weights) and after, whether or not the server would serve
  them, by the bundle's own number of draws and rule, not calibrated, as the server itself judges.
- Primary: AUC after less before at 200 labels, mean over the seeds, paired by image; 95 % interval by 2,000 resamples
  crossed over patients and seeds (`metrics.crossed`). It *helps* when the lower bound is above 0. Beside it the same at
  50 and 100 labels, and for each training what the server found on the quarter of the labels that it held back, with
  its interval, and whether it served the new weights.

Stopped, the same command goes on: each training that ended is kept in ``runs/served_training``. One core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.active_learning.other_source import as_other_source, parts
from benchmarks.bundles import BUNDLES, RESULTS, ROOT
from benchmarks.evidence.data import Images
from benchmarks.evidence.protocol import content_hash
from benchmarks.serving.served import Served, served
from monai_diffclf.data.pneumonia_mnist import patient_number
from monai_diffclf.metrics import roc_auc
from monai_diffclf.metrics.crossed import CrossedResamples, crossed_resamples, difference
from monai_diffclf.monailabel.bundle_model import BundleModel
from monai_diffclf.monailabel.labelled_images import LabelledImage
from monai_diffclf.monailabel.train_process import probabilities
from monai_diffclf.monailabel.train_request import divide_labels
from monai_diffclf.storage.atomic_file import replace_text, replaced

PROTOCOL: dict[str, Any] = {
    "bundle": "pneumonia_xray_diffusion",
    "data": "kermany_cxr_224",
    "source": {"radius": 24.0, "share": 1.0, "gain": 2.0},
    "labels": [50, 100, 200],
    "seeds": [0, 1, 2],
    "analysis": {"resamples": 2000, "seed": 0},
}
CLASSES = ("normal", "pneumonia")
PATIENT = r"([^_]+)_"
CACHE = ROOT / "runs" / "served_training"
RESULT = RESULTS / "served_training.json"


def bundle() -> Path:
    """The bundle, by whose folder the model is called."""
    return Path(BUNDLES, PROTOCOL["bundle"])


def names(images: Images) -> list[str]:
    """Ids of images, which begin with the patient."""
    return [f"{patient}_{number:04d}" for number, patient in enumerate(images.groups.tolist())]


def pictures(images: Images) -> dict[str, Image.Image]:
    """The images as the other source gives them, by their ids."""
    changed = (as_other_source(pixels[..., 0], **PROTOCOL["source"]) for pixels in images.pixels)
    return dict(zip(names(images), map(Image.fromarray, changed), strict=True))


def divided(images: Images) -> tuple[Images, Images]:
    """Images that may be labelled, and those that judge, of a third of the patients."""
    judge = np.asarray([patient_number(f"judge {patient}") % 3 == 0 for patient in images.groups.tolist()])
    return images.take(~judge), images.take(judge)


def drawn(images: Images, seed: int) -> NDArray[np.int64]:
    """The order in which images are labelled."""
    generator, first = np.random.default_rng(seed), PROTOCOL["labels"][0]
    ids = names(images)
    while True:
        order = generator.permutation(len(images)).astype(np.int64)
        items = [
            LabelledImage(ids[row], Path(ids[row]), CLASSES[images.labels[row]], ("final",), str(images.groups[row]))
            for row in order[:first]
        ]
        try:
            divide_labels(items, CLASSES)
        except ValueError:
            continue
        return order


def label(server: Served, labels: Mapping[str, str]) -> None:
    """Give labels as a reader's client would."""
    for image, name in labels.items():
        file = {"label": ("label.json", json.dumps({"label": name}).encode())}
        address = f"{server.url}/datastore/label"
        httpx.put(address, params={"image": image, "tag": "final"}, files=file, timeout=60).raise_for_status()


def train(server: Served, seed: int) -> dict[str, Any]:
    """Train from the shipped weights; the state at the end."""
    address = f"{server.url}/train/{bundle().name}"
    httpx.put(f"{address}/weights", params={"version": "bundle"}, timeout=60).raise_for_status()
    httpx.post(address, json={"seed": seed}, timeout=60).raise_for_status()
    while True:
        state: dict[str, Any] = httpx.get(f"{server.url}/train/", timeout=60).json()
        if state["status"] != "RUNNING":
            break
        time.sleep(2)
    if state["status"] != "DONE":
        raise RuntimeError(f"the training ended: {state}")
    return state


def one_seed(images: Images, judged: list[str], seed: int, folder: Path, bar: Any) -> dict[int, dict[str, Any]]:
    """The trainings of a seed; those that ended before are read."""
    order, found = drawn(images, seed), {}
    files = {number: folder / f"{seed}_{number}.npz" for number in PROTOCOL["labels"]}
    if not all(file.is_file() for file in files.values()):
        shown = images.take(order[: max(PROTOCOL["labels"])])
        ids = names(shown)
        settings = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
        conf = {"patient_pattern": PATIENT}
        with served(pictures(shown), PROTOCOL["bundle"], cores=1, conf=conf, settings=settings) as server:
            given = 0
            for number in PROTOCOL["labels"]:
                label(server, {ids[row]: CLASSES[shown.labels[row]] for row in range(given, number)})
                given = number
                if not files[number].is_file():
                    state = train(server, seed)
                    run = server.studies / "models" / bundle().name / state["result"]["version"]
                    after = probabilities(BundleModel(bundle(), run), judged, "cpu")
                    with replaced(files[number]) as temporary, temporary.open("wb") as file:
                        np.savez(file, probabilities=after, state=json.dumps(state))
                bar.update()
    for number, path in files.items():
        with np.load(path) as content:
            found[number] = {"after": content["probabilities"], "state": json.loads(str(content["state"]))}
    return found


def analyse(judged: Images, before: NDArray[np.float64], runs: dict[int, dict[int, Any]]) -> dict[str, Any]:
    """AUC before and after by the number of labels, with intervals, and what the server found itself."""
    how, found = PROTOCOL["analysis"], {}
    for number in PROTOCOL["labels"]:
        scores = {
            "before": dict.fromkeys(runs, before[:, 1]),
            "after": {seed: run[number]["after"][:, 1] for seed, run in runs.items()},
        }
        resampled = crossed_resamples(
            roc_auc, judged.labels, scores, groups=judged.groups, num_resamples=how["resamples"], seed=how["seed"]
        )
        gain = difference(resampled["after"], resampled["before"])._asdict()
        found[str(number)] = {
            "before": _interval(resampled["before"]),
            "after": _interval(resampled["after"]),
            "gain": gain,
            "helps": gain["low"] > 0,
            "after_of_seeds": {str(seed): float(roc_auc(judged.labels, s)) for seed, s in scores["after"].items()},
            "by_the_server": {str(seed): _by_the_server(run[number]["state"]) for seed, run in runs.items()},
        }
    return found


def _by_the_server(state: dict[str, Any]) -> dict[str, Any]:
    """Labels, settings and what the server found on the labels that it held back."""
    kept = ("images", "before", "new", "difference", "better", "served")
    return {"labels": state["labels"], **{name: state["result"][name] for name in kept}}


def _interval(found: CrossedResamples) -> dict[str, float]:
    low, high = np.percentile(found.resampled, [2.5, 97.5])
    return {"value": found.value, "low": float(low), "high": float(high)}


def main(arguments: list[str] | None = None) -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--part", choices=["final", "development"], default="final")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--no-progress", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images, judged = divided(parts(args.data / PROTOCOL["data"])[args.part])
    folder = CACHE / content_hash({**PROTOCOL, "analysis": None})[:16] / args.part
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as shown:
        files = []
        for name, one in pictures(judged).items():
            files.append(str(Path(shown, f"{name}.png")))
            one.save(files[-1])
        if not (folder / "before.npy").is_file():
            before = probabilities(BundleModel(bundle()), files, "cpu")
            with replaced(folder / "before.npy") as temporary, temporary.open("wb") as file:
                np.save(file, before)
        total = len(PROTOCOL["seeds"]) * len(PROTOCOL["labels"])
        with tqdm(total=total, unit="training", disable=args.no_progress) as bar:
            runs = {seed: one_seed(images, files, seed, folder, bar) for seed in PROTOCOL["seeds"]}
    content = {
        "protocol": PROTOCOL,
        "protocol_hash": content_hash(PROTOCOL),
        "part": args.part,
        "images": {"may_be_labelled": len(images), "judged": len(judged), "patients": len(set(judged.groups.tolist()))},
        "by_labels": analyse(judged, np.load(folder / "before.npy"), runs),
    }
    replace_text(args.output, json.dumps(content, indent=1) + "\n")
    print(args.output)


if __name__ == "__main__":
    main()
