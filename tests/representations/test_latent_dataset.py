"""Latents made once: the right ones, kept with their images, gone on with after a kill, never mixed with others."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import Compose, EnsureTyped, Lambdad, LoadImaged, RandFlipd, RandScaleIntensityd, ScaleIntensityd
from torch.nn.functional import pixel_unshuffle
from torch.utils.data import DistributedSampler, WeightedRandomSampler

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.representations import LatentDataset, RepresentationSpace
from monai_diffclf.representations.latent_store import LatentStore
from tests.latent_spaces import EncodesOnly
from tests.representations.tiny_encoder import make_tiny_encoder


class Recording(EncodesOnly):
    """Says how many images it has encoded, and stops after some calls."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.images, self.stop_after = 0, stop_after

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.images += len(images)
        return super().encode(images)


@pytest.fixture
def files(tmp_path) -> list[dict]:
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    made = []
    for i in range(10):
        path = tmp_path / "images" / f"{i}.npy"
        np.save(path, generator.random((1, 4, 6), dtype=np.float32))
        made.append({"image": str(path), "label": i % 3, "patient": f"p{i}"})
    return made


def read(random: bool = True, factor: float = 1.0) -> Compose:
    steps = [
        LoadImaged("image", reader="NumpyReader"),
        ScaleIntensityd("image", minv=None, maxv=None, factor=factor - 1),
    ]
    steps += [
        RandFlipd("image", prob=0.5, spatial_axis=1),
        RandScaleIntensityd("image", factors=0.5, prob=1.0),
    ] * random
    return Compose([*steps, EnsureTyped("image", track_meta=False)])


def all_views(dataset: LatentDataset) -> torch.Tensor:
    return torch.stack([torch.as_tensor(np.array(dataset._latents[i])) for i in range(len(dataset))])


def image(item: dict) -> torch.Tensor:
    return torch.from_numpy(np.load(item["image"]))


@pytest.mark.parametrize("kept", [False, True])
def test_without_views_latents_are_those_of_the_images(files, tmp_path, kept):
    space = Recording()
    dataset = LatentDataset(
        files, read(), space, views=0, cache_dir=tmp_path / "kept" if kept else None, batch_size=4, progress=False
    )
    assert (len(dataset), space.calls, space.images) == (10, 3, 10), "in batches, each once"
    for index, item in enumerate(files):
        found = dataset[index]
        assert torch.equal(found["image"], 2 * pixel_unshuffle(image(item)[None], 2)[0])
        assert {name: found[name] for name in ("label", "patient")} == {
            "label": item["label"],
            "patient": item["patient"],
        }
    assert dataset[-1]["label"] == files[-1]["label"]
    with pytest.raises(IndexError):
        dataset[10]


def test_views_are_augmented_images_and_each_is_drawn(files):
    dataset = LatentDataset(files, read(), EncodesOnly(), views=4, batch_size=8, progress=False)
    views = all_views(dataset)
    assert views.shape == (10, 4, 4, 2, 3)
    for item, made in zip(files, views, strict=True):
        plain = 2 * image(item)
        for view in made:
            pixels = torch.nn.functional.pixel_shuffle(view[None], 2)[0]
            factor = pixels.sum() / plain.sum()
            assert 0.5 <= factor <= 1.5
            assert any(torch.allclose(pixels, factor * each, atol=1e-5) for each in (plain, plain.flip(2)))
    assert len({float(view.sum()) for view in views.flatten(0, 1)}) == 40, "no two views have the same factor"
    drawn = torch.stack([dataset[0]["image"] for _ in range(200)])
    counts = torch.stack([(drawn == view).flatten(1).all(1).sum() for view in views[0]])
    assert counts.sum() == 200
    assert float(((counts - 50) ** 2 / 50).sum()) < 16.3, "alike often: chi-squared, 3 degrees of freedom, p = 0.001"


def test_a_view_depends_on_seed_and_image_alone(files, tmp_path):
    def views(data, **changes) -> torch.Tensor:
        return all_views(LatentDataset(data, read(), EncodesOnly(), **{"views": 2, "progress": False} | changes))

    first = views(files)
    np.random.seed(3)  # noqa: NPY002
    assert torch.equal(views(files, batch_size=3), first)
    assert torch.equal(views(files[::-1]), first.flip(0))
    assert torch.equal(views(files, views=3)[:, :2], first)
    assert torch.equal(views(files, cache_dir=tmp_path / "kept"), first)
    assert not torch.equal(views(files, seed=1), first)
    arrays = [{**item, "image": image(item), "key": os.path.basename(item["image"])} for item in files]
    in_memory = LatentDataset(arrays, Compose(read().transforms[1:]), EncodesOnly(), views=2, progress=False)
    assert torch.equal(all_views(in_memory), first), "of a file its name counts"


def test_which_view_is_drawn_is_seeded(files):
    dataset = LatentDataset(files, read(), EncodesOnly(), views=4, progress=False)
    epochs = []
    for seed in (1, 1, 2):
        dataset.set_random_state(seed=seed)
        epochs.append(torch.stack([dataset[i]["image"] for i in range(10)]))
    assert torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[0], epochs[2])


def test_a_killed_run_goes_on_to_the_same_bits(files, tmp_path):
    settings = {"views": 2, "batch_size": 4, "progress": False}
    whole = LatentDataset(files, read(), EncodesOnly(), cache_dir=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        LatentDataset(files, read(), Recording(stop_after=2), cache_dir=tmp_path / "killed", **settings)
    space = Recording()
    resumed = LatentDataset(files, read(), space, cache_dir=tmp_path / "killed", **settings)
    assert space.images == 12, "of 20 views 8 were there"
    for name in ("latents.f32", "images.csv", "latents.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert torch.equal(all_views(resumed), all_views(whole))
    again = Recording()
    LatentDataset(files, read(), again, cache_dir=tmp_path / "killed", **settings)
    assert again.calls == 0


@pytest.mark.parametrize("lost", [1, 100, 97])
def test_what_a_crash_left_half_written_is_made_again(files, tmp_path, lost):
    settings = {"views": 0, "batch_size": 4, "cache_dir": tmp_path / "kept", "progress": False}
    whole = LatentDataset(files, read(), EncodesOnly(), **settings)
    bits = {name: (tmp_path / "kept" / name).read_bytes() for name in ("latents.f32", "images.csv")}
    expected = all_views(whole)
    for name, content in bits.items():
        for other, text in bits.items():
            (tmp_path / "kept" / other).write_bytes(text)
        (tmp_path / "kept" / name).write_bytes(content[:-lost])
        assert torch.equal(all_views(LatentDataset(files, read(), EncodesOnly(), **settings)), expected)
        assert (tmp_path / "kept" / name).read_bytes() == content


def test_a_changed_bit_on_the_disk_is_not_used(files, tmp_path):
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    expected = all_views(LatentDataset(files, read(), EncodesOnly(), **settings))
    data = tmp_path / "kept" / "latents.f32"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    space = Recording()
    assert torch.equal(all_views(LatentDataset(files, read(), space, **settings)), expected)
    assert space.calls == 1


def test_more_images_are_added_and_a_choice_of_them_is_found(files, tmp_path):
    settings = {"views": 0, "batch_size": 2, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(files[:4], read(), EncodesOnly(), **settings)
    space = Recording()
    dataset = LatentDataset(files, read(), space, **settings)
    assert space.images == 6
    chosen = LatentDataset([files[7], files[2], files[2]], read(), Recording(stop_after=0), **settings)
    assert torch.equal(chosen[0]["image"], dataset[7]["image"]) and torch.equal(chosen[2]["image"], dataset[2]["image"])


def test_an_image_listed_twice_is_kept_once(files, tmp_path):
    dataset = LatentDataset(
        [files[0], files[0], files[1]], read(), EncodesOnly(), views=0, cache_dir=tmp_path / "kept", progress=False
    )
    assert torch.equal(dataset[0]["image"], dataset[1]["image"])
    assert (tmp_path / "kept" / "latents.f32").stat().st_size == 2 * 24 * 4


def masked(item: dict) -> dict:
    """The part of an image that a box, a side and a file say."""
    pixels = image(item) * torch.from_numpy(np.load(item["mask"])) if "mask" in item else image(item)
    pixels = pixels.flip(2) if item.get("side") == "R" else pixels
    first, last = item.get("box", (0, 4))
    kept = torch.zeros_like(pixels)
    kept[:, first:last] = pixels[:, first:last]
    return {**item, "image": kept}


def test_what_an_item_says_beside_its_image_counts(files, tmp_path):
    """Two lesions of one image are two, and a corrected side or mask is another image."""
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    boxes = [{**files[0], "box": [0, 2]}, {**files[0], "box": (2, 4)}, {**files[0], "side": "R"}, files[0]]
    for made in (settings, {**settings, "cache_dir": None}):
        dataset = LatentDataset(boxes, masked, EncodesOnly(), **made)
        for index, item in enumerate(boxes):
            expected = EncodesOnly().encode(masked(item)["image"][None])[0]
            assert torch.equal(dataset[index]["image"], expected), index
    arrays = [{**item, "image": np.load(item["image"])} for item in boxes]
    first = LatentDataset(arrays, lambda item: masked_array(item), EncodesOnly(), **settings | {"cache_dir": None})
    kept = LatentDataset(
        arrays, lambda item: masked_array(item), EncodesOnly(), **settings | {"cache_dir": tmp_path / "a"}
    )
    assert torch.equal(all_views(kept), all_views(first))
    assert len({tuple(latents.flatten().tolist()) for latents in all_views(kept)}) == 4


def masked_array(item: dict) -> dict:
    first, last = item.get("box", (0, 4))
    pixels = torch.from_numpy(np.flip(item["image"], 2).copy() if item.get("side") == "R" else item["image"])
    return {
        **item,
        "image": torch.cat([torch.zeros(1, first, 6), pixels[:, first:last], torch.zeros(1, 4 - last, 6)], 1),
    }


def test_a_changed_mask_is_refused(files, tmp_path):
    mask = tmp_path / "mask.npy"
    np.save(mask, np.ones((1, 4, 6), dtype=np.float32))
    items = [{**item, "mask": str(mask)} for item in files]
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(items, masked, EncodesOnly(), **settings)
    LatentDataset([{**item, "label": 9, "patient": "other"} for item in items], masked, Recording(0), **settings)
    np.save(mask, np.zeros((1, 4, 6), dtype=np.float32))
    os.utime(mask, ns=(1, 1))
    with pytest.raises(ValueError, match="cache_dir: .* 10 have changed since"):
        LatentDataset(items, masked, EncodesOnly(), **settings)


def other_space() -> EncodesOnly:
    space = EncodesOnly()
    space.version = "another"
    return space


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_space": other_space()}, "space: made with 'blocks of two', asked for 'another'"),
        ({"transform": read(factor=3.0)}, "transform 1 .*factor: made with 0.0, asked for 2.0"),
        ({"transform": read(random=False)}, "transform 2 class: made with 'RandFlipd', asked for 'EnsureTyped'"),
        ({"views": 3}, "views: made with 2, asked for 3"),
        ({"seed": 4}, "seed: made with 1, asked for 4"),
    ],
)
def test_latents_made_otherwise_are_refused(files, tmp_path, changes, message):
    arguments = {"data": files, "transform": read(), "latent_space": EncodesOnly(), "views": 2, "seed": 1}
    LatentDataset(**arguments, cache_dir=tmp_path / "kept", progress=False)
    with pytest.raises(ValueError, match=f"cache_dir: expected latents made with these settings.*{message}"):
        LatentDataset(**arguments | changes, cache_dir=tmp_path / "kept", progress=False)


def test_what_a_transform_drew_last_is_no_setting(files, tmp_path):
    used = read()
    settings = {"views": 2, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(files, used, EncodesOnly(), **settings)
    for item in files:
        used(item)
    LatentDataset(files, used, Recording(stop_after=0), **settings)
    other = read()
    other.transforms[3].scaler.factors = (-0.1, 0.1)
    with pytest.raises(
        ValueError, match=r"transform 3 scaler factors: made with \[-0.5, 0.5\], asked for \[-0.1, 0.1\]"
    ):
        LatentDataset(files, other, EncodesOnly(), **settings)


def test_a_changed_image_is_refused(files, tmp_path):
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(files, read(), EncodesOnly(), **settings)
    np.save(files[3]["image"], np.zeros((1, 4, 6), dtype=np.float32))
    os.utime(files[3]["image"], ns=(1, 1))
    with pytest.raises(ValueError, match=r"cache_dir: .* 1 have changed since, such as .*3\.npy; name another folder"):
        LatentDataset(files, read(), EncodesOnly(), **settings)
    LatentDataset(files[:3], read(), Recording(stop_after=0), **settings)


def test_images_of_another_size_are_refused(files, tmp_path):
    np.save(files[9]["image"], np.zeros((1, 4, 8), dtype=np.float32))
    settings = {"views": 0, "batch_size": 1, "cache_dir": tmp_path / "kept", "progress": False}
    with pytest.raises(ValueError, match=r"data\[9\]\['image'\]: expected the shape \[1, 4, 6\] .*, got \[1, 4, 8\]"):
        LatentDataset(files, read(), EncodesOnly(), **settings)
    # The others are kept, and are not looked at again.
    with pytest.raises(ValueError, match=r"latents: expected the shape \[1, 4, 2, 3\] an image .*, got \[1, 4, 2, 4\]"):
        LatentDataset(files, read(), EncodesOnly(), **settings)


def test_two_processes_do_not_write_at_once(files, tmp_path):
    store = LatentStore(tmp_path / "kept", {})
    with store.filling(), pytest.raises(ValueError, match="is being written by another process"):
        LatentDataset(files, read(), EncodesOnly(), views=0, cache_dir=tmp_path / "kept", progress=False)


def test_of_several_processes_the_first_encodes_and_the_others_wait(files, tmp_path, monkeypatch):
    settings = {"views": 2, "cache_dir": tmp_path / "kept", "progress": False}
    waiting = Recording(stop_after=0)
    rank, first = [1], []

    def barrier() -> None:
        if not first:
            rank[0] = 0
            first.append(None)
            first[0] = LatentDataset(files, read(), EncodesOnly(), **settings)
            rank[0] = 1

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank[0])
    monkeypatch.setattr(torch.distributed, "barrier", barrier)
    dataset = LatentDataset(files, read(), waiting, **settings)
    assert waiting.calls == 0 and torch.equal(all_views(dataset), all_views(first[0]))


def test_works_with_samplers_loaders_workers_and_transforms_of_latents(files, tmp_path):
    dataset = LatentDataset(files, read(), EncodesOnly(), views=2, cache_dir=tmp_path / "kept", progress=False)
    sampler = WeightedRandomSampler([1.0] * 5 + [0.0] * 5, 20, generator=torch.Generator().manual_seed(0))
    batches = list(DataLoader(dataset, batch_size=4, sampler=sampler))
    assert [batch["image"].shape for batch in batches] == [(4, 4, 2, 3)] * 5
    assert {name for batch in batches for name in batch["patient"]} <= {f"p{i}" for i in range(5)}
    shares = [list(DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=False)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(10))
    found = [batch["label"] for batch in DataLoader(dataset, num_workers=2, batch_size=5)]
    assert torch.cat(found).tolist() == [item["label"] for item in files]
    flipped = Dataset(dataset, RandFlipd("image", prob=1.0, spatial_axis=1))
    plain = LatentDataset(files, read(), EncodesOnly(), views=0, progress=False)
    assert torch.equal(
        Dataset(plain, RandFlipd("image", prob=1.0, spatial_axis=1))[3]["image"], plain[3]["image"].flip(2)
    )
    assert flipped[0]["image"].shape == (4, 2, 3)
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (as a worker that is spawned gets it)
    assert torch.equal(all_views(copied), all_views(dataset))


def test_training_on_kept_latents_is_training_on_the_images(files):
    scheduler = DDPMScheduler(100, prediction_type="v_prediction")
    kept = LatentDataset(files, read(), EncodesOnly(), views=0, progress=False)
    images = Dataset(files, read(random=False))
    live = DenoisingPrepareBatch(scheduler, 3, latent_space=EncodesOnly(), label_dropout=0.0)
    stored = DenoisingPrepareBatch(scheduler, 3, label_dropout=0.0)
    one, other = (
        prepare(next(iter(DataLoader(data, batch_size=4)))) for prepare, data in ((live, images), (stored, kept))
    )
    assert one[0].shape == (4, 4, 2, 3)
    assert torch.equal(one[0], other[0]) and torch.equal(one[1]["target"], other[1]["target"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"views": -1}, ValueError, "views: expected an integer of at least 0, got -1"),
        ({"views": True}, ValueError, "views: expected an integer of at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer"),
        ({"seed": 1.5}, ValueError, "seed: expected an integer of at least 0"),
        ({"data": []}, ValueError, "data: expected a datalist with at least one item"),
        ({"latent_space": torch.nn.Identity()}, TypeError, "latent_space: expected a LatentSpace"),
        ({"data": [{"image": 3, "label": 0}]}, TypeError, "data: expected a file or an array as 'image', got int"),
    ],
)
def test_refuses_arguments(files, tmp_path, changes, error, message):
    arguments = {"data": files, "transform": read(), "latent_space": EncodesOnly(), "progress": False}
    with pytest.raises(error, match=message):
        LatentDataset(**arguments | {"cache_dir": tmp_path / "kept"} | changes)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_refuses_images(tmp_path, kept, batch_size):
    fine = torch.rand(1, 4, 6)
    bad = fine.clone()
    bad[0, 0, 0] = torch.nan
    for data, error, message in (
        (
            [{"image": fine}, {"image": fine[:, :2]}],
            ValueError,
            r"data\[1\]\['image'\]: expected the shape \[1, 4, 6\]",
        ),
        ([{"image": fine}, {"label": 1}], ValueError, r"data\[1\]: expected an item with 'image', got \['label'\]"),
        ([{"image": fine}, "a.png"], ValueError, r"data\[1\]: expected an item with 'image', got str"),
        ([{"image": (255 * fine).byte()}], TypeError, r"data\[0\]\['image'\]: expected floating point .* torch.uint8"),
        ([{"image": fine}, {"image": bad}], ValueError, r"data\[1\]\['image'\]: expected finite values, got NaN"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) if kept else None
        with pytest.raises(error, match=message):
            LatentDataset(data, None, EncodesOnly(), batch_size=batch_size, cache_dir=folder, progress=False)
        with pytest.raises(error, match=message):
            LatentDataset(data, None, None, batch_size=batch_size, progress=False)
    with pytest.raises(ValueError, match="transform: expected one that gives an item with 'image', got none"):
        LatentDataset([{"image": fine}], lambda item: {}, None, progress=False)


def test_images_of_another_scale_are_refused():
    space = RepresentationSpace(make_tiny_encoder(), 3).fit([torch.rand(8, 1, 16, 16)])
    with pytest.raises(ValueError, match="images: expected values from -1 to 1, as encoders take them, got 0 to 255"):
        LatentDataset([{"image": torch.arange(256.0).reshape(1, 16, 16)}], None, space, progress=False)


def test_a_representation_may_be_encoded_in_reduced_precision():
    items = [{"image": image} for image in torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))]
    space = RepresentationSpace(make_tiny_encoder(), 3).fit([torch.stack([item["image"] for item in items])])
    exact, rounded = (
        all_views(LatentDataset(items, None, space, amp_dtype=amp_dtype, progress=False))[:, 0]
        for amp_dtype in (None, "bfloat16")
    )
    images = torch.stack([item["image"] for item in items])
    assert torch.equal(exact, space.encode(images))
    assert torch.equal(rounded, space.in_precision(torch.bfloat16).encode(images)) and not torch.equal(rounded, exact)


def test_the_header_says_what_was_made(files, tmp_path):
    LatentDataset(files, read(), EncodesOnly(), views=0, seed=3, cache_dir=tmp_path / "kept", progress=False)
    header = json.loads((tmp_path / "kept" / "latents.json").read_text())
    assert header["shape"] == [1, 4, 2, 3]
    assert header["made_with"]["space"] == "blocks of two" and header["made_with"]["seed"] is None


class Convolved(EncodesOnly):
    """Encodes by a convolution, which automatic mixed precision rounds."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(images, torch.full((3, 1, 2, 2), 1 / 3), stride=2)


def test_images_may_be_encoded_in_reduced_precision(files, tmp_path):
    settings = {"views": 0, "progress": False}
    exact = LatentDataset(files, read(), Convolved(), **settings)
    rounded = LatentDataset(files, read(), Convolved(), cache_dir=tmp_path / "r", amp_dtype="bfloat16", **settings)
    one, other = (torch.stack([made[i]["image"] for i in range(len(files))]) for made in (exact, rounded))
    assert other.dtype == torch.float32 and not torch.equal(one, other)
    torch.testing.assert_close(other, one, rtol=2e-2, atol=1e-2)
    with pytest.raises(ValueError, match="cache_dir: expected latents made with these settings"):
        LatentDataset(files, read(), Convolved(), cache_dir=tmp_path / "r", **settings)
    with pytest.raises(ValueError, match="amp_dtype: expected None, 'bfloat16' or 'float16', got 'int8'"):
        LatentDataset(files, read(), Convolved(), amp_dtype="int8", **settings)


def by(function) -> Compose:
    return Compose([*read().transforms, Lambdad("image", function)])


class Held:
    """A step that holds something, as of third parties."""

    def __init__(self, held) -> None:
        self.held = held

    def __call__(self, item: dict) -> dict:
        return {**item, "image": item["image"] * float(self.held.sum())}


def table(value: float) -> np.ndarray:
    made = np.zeros(5000)
    made[2000] = value
    return made


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (by(lambda x: x * 2), by(lambda x: x * 2), by(lambda x: x * 3)),
        (Held(table(1.0)), Held(table(1.0)), Held(table(2.0))),
        (Held(torch.ones(3)), Held(torch.ones(3)), Held(torch.zeros(3))),
        (EnsureTyped("image"), EnsureTyped("image"), EnsureTyped(["image", "label"])),
    ],
    ids=["function", "array", "tensor", "keys"],
)
def test_latents_of_another_function_or_array_are_refused(files, tmp_path, one, same, other):
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    arrays = [{**item, "image": image(item)} for item in files]
    data = files if isinstance(one, Compose) else arrays
    LatentDataset(data, one, EncodesOnly(), **settings)
    LatentDataset(data, same, Recording(stop_after=0), **settings)
    with pytest.raises(
        ValueError, match=r"cache_dir: expected latents made with these settings.* (content|held): made with"
    ):
        LatentDataset(data, other, EncodesOnly(), **settings)


def test_what_cannot_be_described_is_not_kept(files, tmp_path):
    settings = {"views": 0, "progress": False}
    with pytest.raises(ValueError, match=r"transform: expected steps that can be told .* Lambdad holds .*keep"):
        LatentDataset(files, by(Unknown()), EncodesOnly(), cache_dir=tmp_path / "kept", **settings)
    assert not (tmp_path / "kept").exists()
    assert len(LatentDataset(files, by(Unknown()), EncodesOnly(), **settings)) == 10


class Unknown:
    """Can be copied, and does not say what it is made of."""

    def __call__(self, image):
        return image

    def __deepcopy__(self, memo):
        return self

    def __reduce_ex__(self, protocol):
        raise TypeError("made in C")


def test_latents_of_an_earlier_version_are_refused(files, tmp_path):
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(files, read(), EncodesOnly(), **settings)
    header = json.loads((tmp_path / "kept" / "latents.json").read_text())
    for step in header["made_with"]["transform"].values():
        del step["content"]
    (tmp_path / "kept" / "latents.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=r"transform 0 content: only one of them says it.*remove this one"):
        LatentDataset(files, read(), EncodesOnly(), **settings)


def test_a_changed_slice_of_a_series_is_refused(files, tmp_path):
    """A folder's own time says nothing of the files in it."""
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(2):
        np.save(folder / f"{number}.npy", np.full((1, 4, 6), float(number), np.float32))

    def mean(item: dict) -> dict:
        return {**item, "image": sum(torch.from_numpy(np.load(file)) for file in folder.glob("*.npy"))}

    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    data = [{"image": str(folder), "label": 0}]
    LatentDataset(data, mean, EncodesOnly(), **settings)
    LatentDataset(data, mean, Recording(stop_after=0), **settings)
    state = os.stat(folder)
    np.save(folder / "1.npy", np.full((1, 4, 6), 5.0, np.float32))
    os.utime(folder / "1.npy", ns=(1, 1))
    os.utime(folder, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ValueError, match="cache_dir: .* 1 have changed since"):
        LatentDataset(data, mean, EncodesOnly(), **settings)


@pytest.mark.parametrize("lost", ["latents.json", "images.csv", "latents.f32"])
def test_a_store_that_lost_a_file_is_made_anew(files, tmp_path, lost):
    """What is left of it was not read as latents of other settings: blocks are counted from the first."""
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    LatentDataset(files, read(random=False, factor=3.0), EncodesOnly(), **settings)
    (tmp_path / "kept" / lost).unlink()
    factor = 3.0 if lost == "latents.f32" else 1.0
    again = LatentDataset(files, read(random=False, factor=factor), EncodesOnly(), **settings)
    assert torch.equal(all_views(again), all_views(LatentDataset(files, read(False, factor), EncodesOnly(), views=0)))
    LatentDataset(files, read(random=False, factor=factor), Recording(stop_after=0), **settings)


def test_damaged_tables_and_headers(files, tmp_path):
    settings = {"views": 0, "cache_dir": tmp_path / "kept", "progress": False}
    first = all_views(LatentDataset(files, read(), EncodesOnly(), **settings))
    table, header = tmp_path / "kept" / "images.csv", tmp_path / "kept" / "latents.json"
    lines = table.read_bytes().split(b"\n")
    lines[3] = b"\xff" + lines[3][1:]
    lines[5] = lines[5][:-1] + b"\xff"
    table.write_bytes(b"\n".join(lines))
    space = Recording()
    assert torch.equal(all_views(LatentDataset(files, read(), space, **settings)), first)
    assert space.images == len(files), "in the batches of an undisturbed run"
    for content in ("", "{}", "[]", '{"made_with": 1, "shape": []}'):
        header.write_text(content)
        with pytest.raises(
            ValueError, match=r"cache_dir: expected JSON .* in .*latents\.json, .*; remove .*kept, or name"
        ):
            LatentDataset(files, read(), EncodesOnly(), **settings)
