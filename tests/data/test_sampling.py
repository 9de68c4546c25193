"""Class-balanced sampling."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.data import class_balanced_weights


def test_every_class_is_drawn_equally_often():
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)
    weights = class_balanced_weights([{"label": int(label)} for label in labels])
    assert weights.dtype == torch.float64
    for label in range(3):
        assert weights[labels == label].sum().item() == pytest.approx(1 / 3)
    drawn = labels[torch.multinomial(weights, 6000, True, generator=torch.Generator().manual_seed(0))]
    # The standard deviation of a count is 37.
    assert torch.bincount(drawn).tolist() == pytest.approx([2000] * 3, abs=4 * 37)


def test_labels_of_any_integer_kind():
    expected = class_balanced_weights([{"label": 0}, {"label": 1}, {"label": 1}])
    tensors = class_balanced_weights([{"label": torch.tensor(0)}, {"label": torch.tensor([1])}, {"label": True}])
    assert torch.equal(tensors, expected)


def test_an_empty_datalist_is_refused():
    with pytest.raises(ValueError, match="items: expected a datalist with at least one item, got an empty one"):
        class_balanced_weights([])
