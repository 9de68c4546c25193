"""What a client may ask of a training, and which labels judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_diffclf.monailabel.labelled_images import LabelledImage
from monai_diffclf.monailabel.train_request import TrainRequest, divide_labels, parse_train_request

CLASSES = ["a", "b"]


def labelled(number: int, patients: int = 0, classes: tuple[str, ...] = ("a", "b")) -> list[LabelledImage]:
    """Images of patients, classes in turn."""
    found = []
    for n in range(number):
        patient = f"P{n % patients}" if patients else ""
        found.append(LabelledImage(f"i{n}", Path(f"i{n}.png"), classes[n % len(classes)], ("final",), patient))
    return found


def test_a_quarter_is_held_back_and_patients_stay_together() -> None:
    items = labelled(400, patients=101)
    train, judge = divide_labels(items, CLASSES)
    assert len(train) + len(judge) == 400 and 0.15 < len(judge) / 400 < 0.35
    assert not {item.patient for item in train} & {item.patient for item in judge}


def test_who_judges_once_does_so_always() -> None:
    few, many = labelled(100), labelled(300)
    held = [{item.id for item in divide_labels(items, CLASSES)[1]} for items in (few, many)]
    assert held[0] == held[1] & {item.id for item in few} and len(held[1]) > len(held[0])


def test_too_few_labels_are_told_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"there are none of \['b'\]; label images of these too"):
        divide_labels(labelled(40, classes=("a",)), CLASSES)
    with pytest.raises(ValueError, match="expected at least 5 of 'a' to train on and 3 held back to judge by, got"):
        divide_labels(labelled(8), CLASSES)
    with pytest.raises(ValueError, match=r"there are none of \['a', 'b'\]"):
        divide_labels([], CLASSES)


def test_parameters_as_clients_send_them() -> None:
    assert parse_train_request({}) == TrainRequest()
    sent = {"pretrained": "false", "max_epochs": 7, "learning_rate": "1e-3", "margin": 0, "serve": ["never", "always"]}
    found = parse_train_request(sent | {"tags": ["anna", "final"], "device": ["cpu"], "name": "x", "epochs": 3})
    assert found == TrainRequest(False, 7, 1e-3, 0, "cpu", ("anna", "final"), 0.0, "never", ("epochs",))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_epochs", 0, "max_epochs: expected an integer from 1"),
        ("margin", "much", "margin: expected a number from 0 to 1, got 'much'"),
        ("margin", True, "margin: expected a number from 0 to 1, got True"),
        ("learning_rate", float("nan"), "learning_rate: expected a number"),
        ("serve", "maybe", r"serve: expected one of \['better', 'always', 'never'\], got 'maybe'"),
        ("pretrained", "perhaps", "pretrained: expected true or false"),
        ("tags", "final", "tags: expected a list of names, got 'final'"),
        ("tags", ["../x"], "tags: expected a plain name"),
        ("device", "tpu", "device: expected one of"),
    ],
)
def test_bad_parameters_are_refused_by_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_train_request({name: value})
