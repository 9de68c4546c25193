"""The stages before a training: made once, kept, gone on with, and refused where they were made otherwise."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import RandFlipd

from monai_diffclf.representations import RepresentationSpace, load_space, prepare_space
from monai_diffclf.representations.training_index import index_training_images
from tests.representations.tiny_encoder import make_tiny_encoder as make_encoder


def make_images(count: int = 24, seed: int = 0) -> Dataset:
    """Bright and dark noise."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(1, 16, 16, generator=generator) * 2 - 1 + (n % 2) * 0.5 for n in range(count)]
    return Dataset([{"image": image, "label": n % 2} for n, image in enumerate(images)])


SETTINGS = {"num_components": 3, "data": "hash", "batch_size": 5, "progress": False}


def test_the_space_is_made_once(tmp_path, monkeypatch, device):
    path = tmp_path / "run" / "representation.pt"
    made = prepare_space(path, make_encoder(), make_images(), grid=[2, 2], device=device, **SETTINGS)
    images = torch.stack([item["image"] for item in make_images(4, seed=1)]).to(device)
    latents = made.encode(images)
    assert latents.shape == (4, 3, 2, 2) and made.adapted is False
    monkeypatch.setattr(RepresentationSpace, "fit", None)  # what is there is read
    again = prepare_space(path, make_encoder(), make_images(), grid=[2, 2], device=device, **SETTINGS)
    assert again.version == made.version and torch.equal(again.encode(images), latents)
    assert load_space(path, make_encoder()).version == made.version
    assert sorted(file.name for file in path.parent.iterdir() if file.name[0] != ".") == [
        "representation.json",
        "representation.pt",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_components": 2}, "num_components: made with 3, asked for 2"),
        ({"data": "others"}, "data: made with 'hash', asked for 'others'"),
        ({"adaptation": {"epochs": 1}}, "adaptation: one is frozen, the other adapted"),
    ],
)
def test_other_settings_are_refused(tmp_path, changed, said):
    path = tmp_path / "representation.pt"
    prepare_space(path, make_encoder(), make_images(), **SETTINGS)
    with pytest.raises(ValueError, match=f"was made with other settings .*{said}"):
        prepare_space(path, make_encoder(), make_images(), augmented=make_images(), **{**SETTINGS, **changed})


def test_a_space_of_other_images_or_transforms_is_refused(tmp_path):
    def halve(item: dict) -> dict:
        return {**item, "image": torch.from_numpy(np.load(item["image"])) / 2}

    def prepared(transform) -> str:
        images = Dataset(data, transform)
        return prepare_space(tmp_path / "run" / "representation.pt", make_encoder(), images, **SETTINGS).version

    data = [{"image": str(tmp_path / f"{n}.npy"), "label": n % 2, "key": str(n)} for n in range(24)]
    for item, made in zip(data, make_images(), strict=True):
        np.save(item["image"], made["image"].numpy())
    version = prepared(halve)
    os.utime(data[0]["image"], ns=(1, 1))
    assert prepared(halve) == version, "the time alone has changed"
    with pytest.raises(ValueError, match="was made with other settings .*transform 0 content: made with"):
        prepared(lambda item: {**item, "image": torch.from_numpy(np.load(item["image"]))})
    note = tmp_path / "run" / "representation.json"
    content = json.loads(note.read_text())
    np.save(data[0]["image"], np.zeros((1, 16, 16), np.float32))
    with pytest.raises(ValueError, match="was made with other settings .*images: they have changed since, under the"):
        prepared(halve)
    note.write_text(json.dumps({name: content[name] for name in content if name not in ("images", "transform")}))
    assert prepared(halve) == version, "a run of an earlier version, which does not say, goes on"


def test_an_adapted_encoder_is_kept_with_the_space(tmp_path):
    path = tmp_path / "representation.pt"
    settings = {**SETTINGS, "adaptation": {"epochs": 2, "learning_rate": 0.01, "batch_size": 8}}
    frozen = make_encoder()
    made = prepare_space(
        path, frozen, make_images(), augmented=make_images(), validation=make_images(8, seed=3), **settings
    )
    assert made.adapted and made.encoder.version != frozen.version
    history = json.loads((tmp_path / "adaptation.json").read_text())
    assert [epoch["epoch"] for epoch in history] == [1, 2] and "val_auc" in history[0]
    # Neither stage is repeated, and the weights come from the file.
    again = prepare_space(path, make_encoder(), make_images(), **settings)
    assert again.version == made.version and again.adapted == made.adapted
    images = torch.stack([item["image"] for item in make_images(4, seed=1)])
    assert torch.equal(again.encode(images), made.encode(images))


def test_making_a_space_takes_no_global_random_numbers(tmp_path):
    """Else what a network begins with would depend on whether its space was there already, after a kill say."""
    settings = {**SETTINGS, "adaptation": {"epochs": 1, "batch_size": 8}, "augmented": make_images()}
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for _ in range(2):
        space = prepare_space(tmp_path / "adapted" / "representation.pt", make_encoder(), make_images(), **settings)
        assert torch.equal(torch.get_rng_state(), before)
    items = [{**item, "key": str(n)} for n, item in enumerate(make_images().data)]
    for _ in range(2):
        index_training_images(tmp_path / "nearest.npz", items, None, space, progress=False)
        assert torch.equal(torch.get_rng_state(), before)


def test_an_adaptation_by_another_augmentation_is_refused(tmp_path):
    """Also once the space is there, which the augmented images are not needed for any more."""

    def prepared(prob: float, **changes) -> str:
        augmented = Dataset(make_images().data, RandFlipd("image", prob=prob))
        adaptation = {"epochs": 1, "batch_size": 8, "select": "best"}
        given = {"augmented": augmented, "validation": make_images(8, seed=3), "adaptation": adaptation, **changes}
        return prepare_space(tmp_path / "representation.pt", make_encoder(), make_images(), **SETTINGS, **given).version

    version = prepared(0.5)
    assert prepared(0.5) == prepared(0.9, augmented=None) == version
    with pytest.raises(ValueError, match="other settings .*augmentation 0 .*prob: made with 0.5, asked for 0.9"):
        prepared(0.9)
    with pytest.raises(ValueError, match="other settings .*validation: made with"):
        prepared(0.5, validation=make_images(8, seed=4))


@pytest.mark.parametrize(("first", "second"), [(None, "bfloat16"), ("bfloat16", None)])
def test_a_precision_that_was_none_is_no_less_a_setting(tmp_path, first, second):
    path = tmp_path / "representation.pt"
    prepare_space(path, make_encoder(), make_images(), amp_dtype=first, **SETTINGS)
    with pytest.raises(ValueError, match=f"amp_dtype: made with {first!r}, asked for {second!r}"):
        prepare_space(path, make_encoder(), make_images(), amp_dtype=second, **SETTINGS)


def test_numbers_of_numpy_and_types_of_torch_are_plain_ones(tmp_path):
    path, odd = tmp_path / "representation.pt", {"epochs": np.int64(1), "learning_rate": np.float32(0.5**10)}
    adaptation = {**odd, "batch_size": np.int32(8), "amp_dtype": torch.bfloat16}
    given = {"num_components": np.int64(3), "data": "hash", "batch_size": np.int64(5), "progress": False}
    more = {"whitening": np.float32(0.5), "augmented": make_images(), "seed": np.int64(1)}
    made = prepare_space(path, make_encoder(), make_images(), adaptation=adaptation, **given, **more)
    plain = {"epochs": 1, "learning_rate": 0.5**10, "batch_size": 8, "amp_dtype": torch.bfloat16}
    again = prepare_space(
        path,
        make_encoder(),
        make_images(),
        adaptation=plain,
        **SETTINGS,
        whitening=0.5,
        augmented=make_images(),
        seed=1,
    )
    assert again.version == made.version
    assert (type(made.whitening), type(made.num_components)) == (float, int)
    with pytest.raises(TypeError, match="adaptation: expected numbers, text, lists and dictionaries, got object"):
        prepare_space(tmp_path / "b.pt", make_encoder(), make_images(), adaptation={"epochs": object()}, **SETTINGS)
    assert not (tmp_path / "b.pt").exists()


def test_a_cut_note_is_named(tmp_path):
    path = tmp_path / "representation.pt"
    prepare_space(path, make_encoder(), make_images(), **SETTINGS)
    note = tmp_path / "representation.json"
    note.write_text(note.read_text()[:30])
    with pytest.raises(ValueError, match=r"representation: expected JSON in .*representation\.json, .*; name another"):
        prepare_space(path, make_encoder(), make_images(), **SETTINGS)


def test_what_cannot_be_is_refused(tmp_path):
    path = tmp_path / "representation.pt"
    with pytest.raises(ValueError, match=r"grid: expected \[2, 2\], what tiny makes of images of \[16, 16\] pixels"):
        prepare_space(path, make_encoder(), make_images(), grid=[7, 7], **SETTINGS)
    with pytest.raises(ValueError, match=r"say --set grid=\[2,2\], or make the bundle anew with --encoder, --layers"):
        # Before an adaptation, which takes long.
        prepare_space(path, make_encoder(), make_images(), grid=[7, 7], adaptation={"epochs": "no"}, **SETTINGS)
    assert not path.exists()
    with pytest.raises(ValueError, match="amp_dtype: expected None, 'bfloat16' or 'float16', got 'int8'"):
        prepare_space(path, make_encoder(), make_images(), amp_dtype="int8", **SETTINGS)
    with pytest.raises(ValueError, match="augmented: expected the training images with adaptation, got None"):
        prepare_space(path, make_encoder(), make_images(), adaptation={"epochs": 1}, **SETTINGS)
