"""The nearest training images: closed forms on points, edits by a network that knows the classes, the index file."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from sklearn.neighbors import KDTree

from monai_diffclf.classification import image_keys
from monai_diffclf.networks.denoiser import Denoiser
from monai_diffclf.representations import (
    Retrieval,
    TrainingIndex,
    edit_latents,
    index_training_images,
    pooled_latents,
)

SCHEDULER = DDPMScheduler(
    1000, schedule="cosine_log_snr", log_snr_min=-6.0, log_snr_max=5.0, prediction_type="sample", clip_sample=False
)


class KnowsClasses(torch.nn.Module):
    """Says that every latent of class k is k everywhere."""

    def forward(self, x, timesteps, context=None, class_labels=None):
        return class_labels.view(-1, *[1] * (x.ndim - 1)).expand_as(x).float()


class Halves:
    """A latent space: means of blocks of two pixels."""

    stride, version = 2, "halves"

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)


def make_index(count: int = 40, version: str = "halves") -> TrainingIndex:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 3))
    names = [f"image {n}" for n in range(count)]
    return TrainingIndex(vectors, rng.integers(0, 3, count), names, [""] * count, version)


def test_pooled_latents_are_means_over_the_grid():
    latents = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    assert pooled_latents(latents).tolist() == [[4.0, 1.0]]
    assert torch.equal(pooled_latents(latents.flatten(2)), pooled_latents(latents))  # tokens


def test_neighbours_are_those_of_a_tree():
    index, asked = make_index(), np.random.default_rng(1).normal(size=(5, 3))
    distances, places = KDTree(index.vectors).query(asked, 4)
    found = index.nearest(asked, count=4)
    assert [[int(each.key.split()[1]) for each in row] for row in found] == places.tolist()
    np.testing.assert_allclose([[each.distance for each in row] for row in found], distances, rtol=1e-5)
    assert all(each.label == index.labels[int(each.key.split()[1])] for row in found for each in row)


def test_a_training_image_is_nearest_to_itself_and_all_are_found_where_few_are():
    index = make_index(4)
    found = index.nearest(index.vectors, count=99)
    assert [row[0].key for row in found] == index.keys and {len(row) for row in found} == {4}
    assert max(row[0].distance for row in found) < 1e-5


def test_the_index_comes_back_from_its_file(tmp_path):
    index = make_index()
    index.keys[0], index.files[1] = "ä </script>", "/a b/c.png"
    index.save(tmp_path / "nearest.npz")
    again = TrainingIndex.load(tmp_path / "nearest.npz")
    assert np.array_equal(again.vectors, index.vectors)
    assert (again.keys, again.files, again.labels, again.version) == (
        index.keys,
        index.files,
        index.labels,
        index.version,
    )
    whole = (tmp_path / "nearest.npz").read_bytes()
    for content in (b"PK", whole[: len(whole) // 2], b""):
        (tmp_path / "other.npz").write_bytes(content)
        with pytest.raises(ValueError, match="path: expected a file written by a training"):
            TrainingIndex.load(tmp_path / "other.npz")
    texts = np.frombuffer(b"[1]", np.uint8)
    np.savez(tmp_path / "other.npz", vectors=index.vectors, labels=index.labels, texts=texts)
    with pytest.raises(ValueError, match="path: expected an index of training images"):
        TrainingIndex.load(tmp_path / "other.npz")


def test_an_edit_leads_to_what_the_network_knows_of_the_class(device):
    latents = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).to(device)
    denoiser = Denoiser(KnowsClasses(), SCHEDULER, 3, num_images=3, device=device)
    labels = torch.tensor([2, 0, 1], device=device)
    edited = edit_latents(latents, denoiser, labels, keys=image_keys(latents), start=0.6, num_steps=5)
    assert torch.allclose(edited, labels.view(-1, 1, 1, 1).expand_as(edited).float())
    assert edited.dtype == latents.dtype and edited.shape == latents.shape


def test_retrieval_looks_at_the_image_and_at_its_edit(device):
    index = TrainingIndex(np.array([[0.0], [1.0], [2.0]]), [0, 1, 2], ["a", "b", "c"], [""] * 3, "halves")
    find = Retrieval(index, Halves(), SCHEDULER, 3, count=1)
    images = torch.zeros(2, 1, 8, 8, device=device)
    found = find(images, KnowsClasses().eval(), target=torch.tensor([1, 2], device=device))
    assert [[(each.key, each.as_class) for each in row] for row in found] == [
        [("a", None), ("b", 1)],
        [("a", None), ("c", 2)],
    ]
    assert find.picture(found[0][0]) is None


def test_one_image_at_a_time_gives_what_all_give():
    find = Retrieval(
        TrainingIndex(
            np.random.default_rng(2).normal(size=(9, 1)), range(9), [str(n) for n in range(9)], [""] * 9, "halves"
        ),
        Halves(),
        SCHEDULER,
        9,
        count=2,
    )
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([3, 5, 1, 0])
    together = find(images, KnowsClasses().eval(), target=target)
    alone = [find(images[i : i + 1], KnowsClasses().eval(), target=target[i : i + 1])[0] for i in range(4)]
    assert [[n.key for n in row] for row in together] == [[n.key for n in row] for row in alone]


class Counted(Halves):
    """Counts the images that it encodes."""

    images = 0

    def encode(self, images):
        self.images += len(images)
        return super().encode(images)


def as_tensor(item):
    return {**item, "image": torch.as_tensor(item["image"])}


def twice(item):
    return {**item, "image": 2 * torch.as_tensor(item["image"])}


def squares(count: int = 5, start: float = 0.0) -> list[dict]:
    return [{"image": np.full((1, 4, 4), start + n, np.float32), "label": n % 2, "key": f"k{n}"} for n in range(count)]


def test_training_images_are_indexed_once(tmp_path):
    items, space = squares(), Counted()

    def indexed(items, read=as_tensor) -> TrainingIndex:
        path = index_training_images(tmp_path / "nearest.npz", items, read, space, batch_size=2, progress=False)
        return TrainingIndex.load(path)

    index = indexed(items)
    assert index.vectors.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]] and index.files == [""] * 5
    indexed(items)
    assert space.images == 5
    assert len(indexed(items[:3]).keys) == 3 and space.images == 8
    path = tmp_path / "nearest.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert len(indexed(items[:3]).keys) == 3, "a damaged one is made anew"
    old = indexed(items[:3])
    TrainingIndex(old.vectors, old.labels, old.keys, old.files, old.version).save(path)
    before = space.images
    assert indexed(items[:3]).made_of == old.made_of and space.images == before + 3, "and one of an earlier version"


def test_an_index_of_other_images_labels_or_transforms_is_made_anew(tmp_path):
    path, space = tmp_path / "nearest.npz", Counted()

    def indexed(items, read=as_tensor) -> TrainingIndex:
        return TrainingIndex.load(index_training_images(path, items, read, space, progress=False))

    without = [{"image": item["image"], "label": item["label"]} for item in squares(3)]
    assert indexed(without).vectors.ravel().tolist() == [0, 1, 2]
    assert indexed(without[::-1]).vectors.ravel().tolist() == [2, 1, 0], "their numbers are their names"
    assert indexed(squares(3, 100.0)).vectors.ravel().tolist() == [100, 101, 102]
    assert indexed([{**item, "label": 1} for item in squares(3, 100.0)]).labels == [1, 1, 1]
    assert indexed(squares(3), twice).vectors.ravel().tolist() == [0, 2, 4]

    lock = threading.Lock()
    before = space.images
    for _ in range(2):
        indexed(squares(3), lambda item: as_tensor(item) if lock else item)
    assert space.images == before + 6, "what cannot be told from others is made each time"


def test_an_index_of_files_that_were_written_anew_is_made_anew(tmp_path):
    def read(item):
        return {**item, "image": torch.from_numpy(np.load(item["image"]))}

    def indexed() -> list[float]:
        path = index_training_images(tmp_path / "nearest.npz", items, read, Halves(), progress=False)
        return TrainingIndex.load(path).vectors.ravel().tolist()

    items = [{"image": str(tmp_path / f"{n}.npy"), "label": n, "key": f"{n}"} for n in range(2)]
    for number, item in enumerate(items):
        np.save(item["image"], np.full((1, 4, 4), float(number), np.float32))
    assert indexed() == [0, 1]
    np.save(items[1]["image"], np.full((1, 4, 4), 7.0, np.float32))
    os.utime(items[1]["image"], ns=(1, 1))
    assert indexed() == [0, 7]


def test_an_index_of_another_space_is_refused():
    with pytest.raises(ValueError, match="index: expected one of the space halves, got one of other"):
        Retrieval(make_index(version="other"), Halves(), SCHEDULER, 3)


@pytest.mark.parametrize(("vectors", "count"), [(np.zeros((2, 3)), 3), (np.zeros((0, 3)), 0), (np.zeros(3), 3)])
def test_what_is_no_index_is_refused(vectors, count):
    with pytest.raises(ValueError, match="vectors: expected an array"):
        TrainingIndex(vectors, [0] * count, ["a"] * count, [""] * count, "v")


def test_other_latents_are_refused():
    with pytest.raises(ValueError, match=r"vectors: expected mean latents \[B, 3\]"):
        make_index().nearest(np.zeros((2, 4)))
