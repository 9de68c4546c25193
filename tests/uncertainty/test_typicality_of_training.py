"""Typicality that is told of training images as well: a part's Gaussian is theirs too, its scale is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.uncertainty import fit_typicality, image_statistics
from monai_diffclf.uncertainty.gaussian_part import cross_fit

SIZE = 40


def errors(count: int, seed: int = 0) -> DenoisingErrors:
    values = torch.rand(count, 2, 9, generator=torch.Generator().manual_seed(seed)) + 0.5
    return DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9))


def features(count: int, seed: int, shift: float = 0.0) -> dict[str, torch.Tensor]:
    """Normal features, the first ten of which a kind of images shifts."""
    values = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[:, :10] += shift
    return {"seen": values}


def test_the_gaussian_is_that_of_both():
    own, more = features(30, 0), features(500, 1)
    part = cross_fit(own, np.arange(30), more)[0]["seen"]
    both = torch.cat([own["seen"], more["seen"]]).numpy()
    assert part.mean == pytest.approx(both.mean(0))
    scale = both.std(0)
    expected = LedoitWolf().fit(both / scale).mahalanobis(both / scale)
    assert part.distance(torch.from_numpy(both)).numpy() == pytest.approx(expected)


def test_distances_of_many_images_are_chi_squared():
    part = cross_fit(features(40, 0), np.arange(40), features(20000, 1))[0]["seen"]
    distance = part.distance(features(4000, 2)["seen"]).numpy()
    for level in (0.5, 0.9, 0.99):
        assert (distance < chi2.ppf(level, df=SIZE)).mean() == pytest.approx(level, abs=0.02)


def test_more_images_tell_another_kind_better():
    """Of usual images the second half of the features follows the first, of the others it does not."""

    def follow(count: int, seed: int, share: float = 0.9) -> dict[str, torch.Tensor]:
        values = features(count, seed)["seen"]
        rest = values[:, SIZE // 2 :]
        values[:, SIZE // 2 :] = share * values[:, : SIZE // 2] + (1 - share**2) ** 0.5 * rest
        return {"seen": values}

    usual, other = follow(400, 5), follow(400, 6, share=0.5)
    labels = np.r_[np.zeros(400), np.ones(400)]
    areas = []
    for more in (None, follow(1500, 1)):
        fitted = fit_typicality(errors(40), images=follow(40, 0), training=more).parts["seen"]
        scores = [fitted.score(kind["seen"]).numpy() for kind in (usual, other)]
        areas.append(roc_auc_score(labels, np.concatenate(scores)))
    assert areas[1] > areas[0] + 0.03, areas


def test_p_values_stay_honest_where_training_images_are_narrower():
    """As latents of an encoder that has seen them are: the scale is that of the validation images."""
    narrow = {name: 0.7 * values for name, values in features(2000, 1).items()}
    parts, known = cross_fit(features(200, 0), np.arange(200), narrow)
    scores = parts["seen"].score(features(4000, 2)["seen"]).numpy()
    assert np.median(scores) == pytest.approx(1, abs=0.1)
    assert (scores > np.quantile(known, 0.9)).mean() == pytest.approx(0.1, abs=0.05)


def test_scores_do_not_know_their_own_image():
    """An image far off widens the Gaussian that it is in: its own score is by a fit without it."""
    own = features(30, 0)
    own["seen"][0] = 8.0
    codes = np.arange(30)
    parts, scores = cross_fit(own, codes, features(200, 1))
    assert scores[0] > float(parts["seen"].score(own["seen"][:1]))


def test_a_part_that_training_images_lack_is_of_the_validation_images():
    alone = fit_typicality(errors(40), images=features(40, 0))
    both = features(40, 0) | {"other": torch.randn(40, 3, generator=torch.Generator().manual_seed(4))}
    mixed = fit_typicality(errors(40), images=both, training={"other": torch.zeros(5, 3)})
    assert mixed.parts["seen"].precision == pytest.approx(alone.parts["seen"].precision)
    assert mixed.parts["errors"].precision == pytest.approx(alone.parts["errors"].precision)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"colour": torch.zeros(5, SIZE)},
            r"training: expected parts that the images have too, \['seen'\], got 'colour'",
        ),
        ({"errors": torch.zeros(5, 8)}, "got 'errors'"),
        ({"seen": torch.zeros(5, 3)}, r"training: expected 40 features of seen an image, .*, got the shape \[5, 3\]"),
        ({"seen": torch.full((5, SIZE), torch.nan)}, "training: expected finite features of seen, got NaN"),
    ],
)
def test_refused(training, message):
    with pytest.raises(ValueError, match=message):
        fit_typicality(errors(40), images=features(40, 0), training=training)


def test_images_are_described_where_they_are_given():
    images, more = (torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n in (40, 90))
    given = fit_typicality(errors(40), images=images, training=more)
    described = fit_typicality(errors(40), images=images, training=image_statistics(more))
    assert given.to_dict() == described.to_dict()
