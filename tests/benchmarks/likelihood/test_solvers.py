"""The reference that the solvers are measured against, on classes whose density and score are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.likelihood.solvers import published
from monai_diffclf.inferers import ScoreClassifierInferer
from monai_diffclf.networks.schedulers import VPSDE
from tests.closed_form import ExactDenoiser, make_classes, make_images

# The reference ends at the prior N(0, 1) and is wrong by what is left of the image there, alpha(1) = 0.0066 of it.
TOLERANCE = 0.05


@pytest.fixture
def setting():
    """An SDE, its inferer's settings of the reference, and images."""
    return VPSDE(), {"num_classes": 2, "solver": "dopri5", "tolerance": 1e-5, "num_probes": 1}


def reference(sde, inferer, classes, images):
    model = SimpleNamespace(network=ExactDenoiser(inferer.process, classes), sde=sde)
    return published(model, images, batch=2)


def test_likelihood_of_gaussians_is_exact(setting):
    """Their Jacobian is diagonal, so that one probe of signs gives its trace exactly."""
    sde, settings = setting
    classes = make_classes("gaussian")
    images = make_images(classes, 2)
    values, evaluations = reference(sde, ScoreClassifierInferer(sde, **settings), classes, images)
    exact = torch.stack([law.log_density(images) for law in classes], 1)
    np.testing.assert_allclose(values, exact, atol=TOLERANCE)
    assert evaluations > 20


def test_probes_are_those_of_the_inferer(setting):
    """With another probe a mixture's likelihood is another one."""
    sde, settings = setting
    classes = make_classes("mixture")
    images = make_images(classes, 2)
    same, other = (ScoreClassifierInferer(sde, seed=seed, **settings) for seed in (0, 1))
    values, _ = reference(sde, same, classes, images)
    network = ExactDenoiser(same.process, classes)
    ours, theirs = (np.asarray(inferer.log_likelihood(images, network)) for inferer in (same, other))
    error = np.abs(values - ours).max()
    assert error < TOLERANCE
    assert np.abs(values - theirs)[:, 1].max() > 10 * error
