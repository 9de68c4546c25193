"""Features of encoders that have not seen an image, in the basis of the one that has: closed forms, who saw what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandFlipd

from monai_diffclf.representations import LatentDataset, cross_fitted_features
from monai_diffclf.representations.cross_fit import align_space, split_folds

SIZE = 5


class Linear:
    """Cells of a 5-channel image, turned and moved; with a global token, the mean of the cells turned otherwise."""

    stride = 1

    def __init__(self, turn: torch.Tensor, shift: float = 0.0, global_token: bool = False, name: str = "a") -> None:
        self.turn, self.shift, self.global_token, self.version = turn, shift, global_token, name
        if global_token:
            self.spread = lambda maps, size: maps

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        cells = torch.einsum("ij,bjhw->bihw", self.turn, images) + self.shift
        if not self.global_token:
            return cells
        token = images.flatten(2).mean(2) @ self.turn - self.shift
        return torch.cat([token[..., None], cells.flatten(2)], dim=2)


def orthogonal(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))[0].float()


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1.0, SIZE + 1).reshape(SIZE, 1, 1)
    return torch.randn(count, SIZE, 3, 2, generator=generator) * spread + 2


@pytest.mark.parametrize("global_token", [False, True])
def test_a_turned_space_is_turned_back(global_token):
    space, reference = Linear(orthogonal(0), 3.0, global_token), Linear(orthogonal(1), -1.0, global_token)
    aligned = align_space(space, reference, images(40).split(16))
    fresh = images(7, seed=1)
    assert torch.allclose(aligned.encode(fresh), reference.encode(fresh), atol=1e-4)
    assert aligned.explained == pytest.approx(1.0, abs=1e-5)
    assert aligned.rotations.shape == (2 if global_token else 1, SIZE, SIZE)
    for rotation in aligned.rotations:
        assert torch.allclose(rotation @ rotation.T, torch.eye(SIZE), atol=1e-5)
    assert aligned.version not in (space.version, reference.version) and aligned.stride == 1


def test_the_rotation_is_the_best_and_keeps_lengths():
    """No other rotation comes closer, also where no rotation fits; what it explains is what is measured."""
    stretched = orthogonal(2) @ torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.5, 1.0])) @ orthogonal(3)
    space, reference = Linear(torch.eye(SIZE)), Linear(stretched, 1.0)
    given = images(60)
    aligned = align_space(space, reference, [given])
    target = reference.encode(given)

    def distance(found: torch.Tensor) -> float:
        return float((found - target).square().sum())

    best = distance(aligned.encode(given))
    total = float((target - target.mean((0, 2, 3), keepdim=True)).square().sum())
    assert aligned.explained == pytest.approx(1 - best / total, abs=1e-4)
    centred = given - given.mean((0, 2, 3), keepdim=True)
    for seed in range(20):
        skew = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 0.1
        turn = torch.linalg.matrix_exp(skew - skew.T) @ aligned.rotations[0]
        other = torch.einsum("ij,bjhw->bihw", turn, centred) + target.mean((0, 2, 3), keepdim=True)
        assert distance(other) > best
    moved = aligned.encode(given)
    moved = moved - moved.mean((0, 2, 3), keepdim=True)
    assert torch.allclose(moved.norm(dim=1), centred.norm(dim=1), rtol=1e-4)


def test_spaces_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"space: expected latents of the reference's shape \[5, 7\], got \[5, 3, 2\]"):
        align_space(Linear(orthogonal(0)), Linear(orthogonal(0), global_token=True), [images(3)])
    with pytest.raises(ValueError, match="batches: expected images to align two spaces on, got none"):
        align_space(Linear(orthogonal(0)), Linear(orthogonal(0)), [])


def items(count: int = 24) -> list[dict]:
    return [
        {"image": image, "label": i % 3, "patient": f"p{i // 6}", "key": str(i)}
        for i, image in enumerate(images(count))
    ]


def test_folds_keep_patients_together_and_classes_apart_evenly():
    data = [{"label": i % 2, "patient": f"p{i // 2}" if i < 30 else ""} for i in range(60)]
    folds = np.array(split_folds(data, 3, seed=1))
    labels = np.array([item["label"] for item in data])
    counts = np.array([[np.sum((folds == fold) & (labels == label)) for label in (0, 1)] for fold in range(3)])
    assert counts.sum() == 60 and counts.min() >= 8 and counts.max() <= 12
    assert all(folds[i] == folds[i + 1] for i in range(0, 30, 2))
    assert split_folds(data, 3, seed=1) == folds.tolist() != split_folds(data, 3, seed=2)


@pytest.mark.parametrize(
    ("folds", "message"),
    [(1, "folds: expected an integer of at least 2, got 1"), (5, "folds: expected at most 4, the patients")],
)
def test_refuses_folds(folds, message):
    with pytest.raises(ValueError, match=message):
        split_folds(items(), folds)


@pytest.mark.parametrize("kept", [False, True])
def test_each_image_is_encoded_by_what_has_not_seen_it(tmp_path, kept):
    data, seen, reference = items(), {}, Linear(orthogonal(9), 2.0, name="whole")

    def fit_space(others: list[dict], fold: int) -> Linear:
        seen[fold] = {item["key"] for item in others}
        return Linear(orthogonal(fold), float(fold), name=f"fold {fold}")

    folder = tmp_path / "kept" if kept else None
    dataset = cross_fitted_features(
        data, None, reference, fit_space, folds=3, views=0, cache_dir=folder, progress=False
    )
    assert [dataset[i]["key"] for i in range(len(dataset))] == [item["key"] for item in data]
    for i, (part, _) in enumerate(dataset.places):
        assert data[i]["key"] not in seen[part], "who encodes an image was fitted without it"
        assert not {item["key"] for item in data if item["patient"] == data[i]["patient"]} & seen[part]
        assert torch.allclose(dataset[i]["image"], reference.encode(data[i]["image"][None])[0], atol=1e-3)
    assert set(seen) == {0, 1, 2} and dataset.explained == pytest.approx([1.0] * 3, abs=1e-5)
    assert dataset.data[3]["label"] == 0
    if kept:
        assert sorted(path.name for path in folder.iterdir()) == ["fold_0", "fold_1", "fold_2"]


def test_views_are_those_of_a_plain_data_set_and_drawn_by_seed():
    flip = RandFlipd("image", prob=0.5, spatial_axis=0)
    same = Linear(torch.eye(SIZE))
    plain = LatentDataset(items(), flip, same, views=3, progress=False)
    dataset = cross_fitted_features(items(), flip, same, lambda *_: same, folds=2, views=3, progress=False)
    for i, (part, place) in enumerate(dataset.places):
        assert np.allclose(dataset.parts[part]._latents[place], plain._latents[i], atol=1e-4)

    def epoch(seed: int) -> torch.Tensor:
        dataset.set_random_state(seed=seed)
        return torch.stack([dataset[i]["image"] for i in range(24)])

    assert torch.equal(epoch(1), epoch(1)) and not torch.equal(epoch(1), epoch(2))
