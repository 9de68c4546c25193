"""Parameters of an inference."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.monailabel.infer_request import InferRequest, find_devices, parse_request


def test_nothing_asked_is_the_bundles_own() -> None:
    assert parse_request({"model": "m", "image": "a.png", "description": "d", "save_label": False}) == InferRequest()


def test_everything_asked() -> None:
    request = {"num_draws": 7, "rule": "vote", "seed": 3, "device": "cpu", "result_extension": ".png", "overlay": True}
    assert parse_request(request) == InferRequest(7, "vote", 3, "cpu", ".png", True)


def test_options_and_text_as_clients_send_them_back() -> None:
    request = {"device": ["cpu", "other"], "rule": ["mean", "vote"], "num_draws": "7", "overlay": "True", "seed": None}
    assert parse_request(request) == InferRequest(7, "mean", None, "cpu", ".nii.gz", True)


def test_unknown_parameters_are_named() -> None:
    assert parse_request({"num_drews": 3, "result_dtype": "uint8"}).ignored == ("num_drews",)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"num_draws": 0}, "num_draws: expected an integer from 1 to 1001, got 0"),
        ({"num_draws": 2.5}, "num_draws: expected an integer from 1 to 1001, got 2.5"),
        ({"num_draws": True}, "num_draws: expected an integer from 1 to 1001, got True"),
        ({"num_draws": 10**9}, "num_draws: expected an integer from 1 to 1001, got 1000000000"),
        ({"num_draws": "many"}, "num_draws: expected an integer from 1 to 1001, got 'many'"),
        ({"seed": -1}, "seed: expected an integer from 0 to 9223372036854775807, got -1"),
        ({"rule": "best"}, r"rule: expected one of \['vote', 'mean', 'weighted_vote'\], got 'best'"),
        ({"rule": {}}, "rule: expected one of"),
        (
            {"result_extension": ".jpg"},
            r"result_extension: expected one of \['.nii.gz', '.nii', '.png', '.nrrd'\], got '.jpg'",
        ),
        ({"overlay": "maybe"}, "overlay: expected true or false, got 'maybe'"),
        ({"device": "tpu"}, r"device: expected one of \[.*'cpu'.*\], got 'tpu'"),
    ],
)
def test_refused(request_: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_request(request_)


def test_devices() -> None:
    assert find_devices()["cpu"] == "cpu"
    assert ("cuda:0" in find_devices()) == torch.cuda.is_available()
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="got 'cuda'; this server has no GPU"):
            parse_request({"device": "cuda"})
