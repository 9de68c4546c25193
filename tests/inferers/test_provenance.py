"""Provenance: equal where errors are equal, another wherever they could differ."""

from __future__ import annotations

import functools
import json
import threading

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote, LevelSampling, PredictiveCurtailment, SequentialTest, VoteModel
from monai_diffclf.inferers import CascadeInferer, DiffusionClassifierInferer, ScoreClassifierInferer, provenance
from monai_diffclf.networks import RetimedNetwork
from monai_diffclf.networks.nets import SliceNetwork, SlidingWindowNetwork, WaveletNetwork
from monai_diffclf.networks.schedulers import VPSDE


def network(value: float = 1.0) -> torch.nn.Module:
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(layer.weight, value)
    torch.nn.init.zeros_(layer.bias)
    return layer


def made(scheduler=None, weight: float = 1.0, **kwargs) -> dict:
    scheduler = DDPMScheduler(100) if scheduler is None else scheduler
    return provenance(DiffusionClassifierInferer(scheduler, **{"num_draws": 9, **kwargs}), network(weight))


def test_equal_settings_are_equal_and_fit_into_json():
    assert made() == made() == json.loads(json.dumps(made()))
    assert made(stopping=CurtailedVote()) == made(stopping=CurtailedVote())
    assert made()["decision"] == "afterwards"


def test_numpy_integers_are_numbers_like_any():
    numbers = {"num_classes": 2, "num_draws": 12, "seed": 3, "batch_size": 8}
    own = {name: np.int64(value) for name, value in numbers.items()}
    stopping = SequentialTest(block=np.int32(4), max_draws=np.int64(8), seed=np.uint8(5))
    plain = made(**numbers, stopping=SequentialTest(block=4, max_draws=8, seed=5))
    assert json.dumps(made(**own, stopping=stopping)) == json.dumps(plain)
    score = [ScoreClassifierInferer(VPSDE(), kind(2), seed=kind(3), num_steps=kind(4)) for kind in (int, np.int64)]
    assert json.dumps(provenance(score[0], network())) == json.dumps(provenance(score[1], network()))


def test_what_wrappers_do_beside_their_weights():
    inner, inferer = network(), DiffusionClassifierInferer(DDPMScheduler(100), num_draws=9)
    retimed = [
        RetimedNetwork(inner, DDPMScheduler(100, schedule=s), DDPMScheduler(100)) for s in ("cosine", "linear_beta")
    ]
    wrapped = [
        SlidingWindowNetwork(inner, 32),
        SlidingWindowNetwork(inner, 16),
        SlidingWindowNetwork(inner, 16, margin=2),
    ]
    wrapped += [SliceNetwork(inner, axis=0), SliceNetwork(inner, axis=1), WaveletNetwork(inner), *retimed]
    said = [provenance(inferer, each)["network_settings"] for each in wrapped]
    assert len(set(said)) == len(said)
    assert said == [provenance(inferer, each)["network_settings"] for each in wrapped]
    more = {"sw_batch_size": 2}  # calls, which change no error
    assert provenance(inferer, SlidingWindowNetwork(inner, 32, **more))["network_settings"] == said[0]
    assert "network_settings" not in made() | provenance(inferer, SliceNetwork(inner))


def test_an_autocast_around_is_as_amp_dtype_is():
    with torch.autocast("cpu", torch.bfloat16):
        assert made() == made(amp_dtype=torch.bfloat16)
        score = provenance(ScoreClassifierInferer(VPSDE()), network())  # whose network runs in the images' precision
    assert made() == made(amp_dtype=None) != made(amp_dtype=torch.bfloat16)
    assert score == provenance(ScoreClassifierInferer(VPSDE()), network())


@pytest.mark.parametrize("name", ["num_classes", "num_draws", "seed", "batch_size"])
@pytest.mark.parametrize("value", [True, 2.0, "2", np.float64(2), torch.tensor(2)])
def test_what_is_no_whole_number_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected a"):
        made(**{name: value})


@pytest.mark.parametrize(
    ("kwargs", "fields"),
    [
        ({"weight": 1.5}, {"network"}),
        ({"seed": 1}, {"seed", "noise_levels", "log_snr"}),
        ({"num_draws": 10}, {"num_draws", "noise_levels", "log_snr"}),
        ({"noise_levels": "uniform"}, {"noise_levels", "log_snr"}),
        ({"noise_levels": LevelSampling((2.0, 1.0))}, {"noise_levels", "log_snr"}),
        ({"num_classes": 3}, {"num_classes", "conditioning"}),
        ({"conditioning": "crossattn"}, {"conditioning"}),
        ({"scheduler": DDPMScheduler(100, prediction_type="v_prediction")}, {"prediction_type"}),
        ({"scheduler": DDPMScheduler(100, schedule="cosine")}, {"log_snr"}),
        ({"amp_dtype": torch.bfloat16}, {"precision", "decision"}),
        ({"stopping": CurtailedVote()}, {"stopping", "decision"}),
        ({"rule": "mean", "weighting": "elbo", "temperature": 3.0, "batch_size": 2}, set()),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_errors_depend_on(kwargs, fields):
    plain, other = made(), made(**kwargs)
    assert {name for name in plain if plain[name] != other[name]} == fields


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"stopping": CurtailedVote(1)}, {"stopping": CurtailedVote(2)}),
        (
            {"stopping": PredictiveCurtailment(0.1, VoteModel(1.0))},
            {"stopping": PredictiveCurtailment(0.1, VoteModel(2.0))},
        ),
        (
            {"stopping": CurtailedVote(), "rule": "weighted_vote", "weighting": torch.ones(9)},
            {"stopping": CurtailedVote(), "rule": "weighted_vote", "weighting": torch.arange(9.0)},
        ),
        ({"amp_dtype": torch.bfloat16, "rule": "mean"}, {"amp_dtype": torch.bfloat16}),
    ],
)
def test_what_decides_which_draws_are_made(first, second):
    assert made(**first) != made(**second)


def test_mirrored_noise_is_other_noise():
    plain, mirrored = (made(noise_levels=LevelSampling((1.0,), antithetic=flags)) for flags in ((), (True,)))
    assert plain != mirrored


class Scaled:
    """What is done to images, with a table of many numbers."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images * float(self.table.sum())


def table(value: float) -> np.ndarray:
    made = np.zeros(5000)
    made[2000] = value
    return made


def halved(images: torch.Tensor) -> torch.Tensor:
    return images / 2


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (lambda x: x * 2, lambda x: x * 2, lambda x: x * 3),
        (Scaled(table(1)), Scaled(table(1)), Scaled(table(2))),
        (functools.partial(torch.mul, other=2), functools.partial(torch.mul, other=2), functools.partial(torch.mul)),
        (Scaled(table(1)).__call__, Scaled(table(1)).__call__, Scaled(table(2)).__call__),
        (halved, halved, lambda x: x / 2),
    ],
    ids=["function", "object", "partial", "method", "named"],
)
def test_a_cascade_is_of_what_its_functions_do(one, same, other):
    def found(prepare) -> str:
        second = DiffusionClassifierInferer(DDPMScheduler(100), num_draws=9)
        return provenance(CascadeInferer(second, network(), 0.5, prepare=prepare), network())["prepare"]

    assert found(one) == found(same) != found(other)
    assert found(torch.nn.functional.relu) == "relu", "of a package the name, as in earlier results"
    assert found(None) == "None" and " at 0x" not in found(one)
    lock = threading.Lock()
    with pytest.raises(ValueError, match="inferer: expected functions that can be told from others"):
        found(lambda x: (x, lock))
