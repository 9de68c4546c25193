"""Handlers by name: all are attached in their order, and a configuration changes, adds and switches off one by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_diffclf.bundle import find_bundle
from monai_diffclf.handlers import MovingAverage, NamedHandlers


class Note:
    """Writes down when it is called."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: self.notes.append(self.name))


def test_all_are_attached_in_their_order() -> None:
    notes: list[str] = []
    handlers = {name: Note(name, notes) for name in ("c", "a", "b")}
    engine = Engine(lambda engine, batch: None)
    NamedHandlers({**handlers, "off": None}).attach(engine)
    engine.run([0])
    assert notes == ["c", "a", "b"]


@pytest.mark.parametrize("wrong", [[], {"a": 3}])
def test_refuses_what_are_no_handlers(wrong: Any) -> None:
    with pytest.raises(TypeError, match="handlers: expected"):
        NamedHandlers(wrong)


def overlaid(tmp_path: Path, change: dict[str, Any]) -> NamedHandlers:
    """The handlers of a shipped bundle's training with a user's file over it."""
    (tmp_path / "mine.json").write_text(json.dumps(change))
    root = find_bundle("phantom_xray_diffusion")
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "train.json"), str(tmp_path / "mine.json")])
    parser.update({"bundle_root": str(root), "output_dir": str(tmp_path), "num_images#train": 8, "progress": False})
    parser["num_images#validation"] = 8
    handlers = parser.get_parsed_content("train#handlers")
    assert isinstance(handlers, list) and len(handlers) == 1
    made: NamedHandlers = handlers[0]
    assert made.handlers["moving_average"] is parser.get_parsed_content("ema")
    return made


def test_a_file_of_ones_own_changes_a_handler_by_its_name(tmp_path: Path) -> None:
    average = overlaid(tmp_path, {"train#named_handlers#moving_average#limit": 0.9}).handlers["moving_average"]
    assert isinstance(average, MovingAverage) and average.limit == 0.9


def test_a_file_of_ones_own_adds_and_switches_off_handlers(tmp_path: Path) -> None:
    own = {"_target_": "monai.handlers.StatsHandler", "iteration_log": False}
    change = {"+train#named_handlers": {"own": own}, "train#named_handlers#samples#_disabled_": True}
    names = list(overlaid(tmp_path, change).handlers)
    assert names[-1] == "own" and "samples" not in names


def test_other_processes_leave_out_what_the_first_one_does(tmp_path: Path) -> None:
    first, other = overlaid(tmp_path, {}).handlers, overlaid(tmp_path, {"rank": 1}).handlers
    assert list(first) == [
        *("epoch_seed", "gradient_clipping", "moving_average", "learning_rate", "validation", "checkpoint", "progress"),
        *("epoch_log", "tensorboard", "samples"),
    ]
    assert set(first) - set(other) == {"epoch_log", "tensorboard", "samples"}


def test_monais_tracking_adds_its_handler_beside_them() -> None:
    """MONAI appends to the list of handlers that it knows the place of."""
    parser = ConfigParser()
    parser.read_config(str(find_bundle("phantom_xray_diffusion") / "configs" / "train.json"))
    parser["save_execute_config"] = False  # else it writes a file
    place = {"id": "train#trainer", "handlers": "train#handlers"}
    own = {"_target_": "MLFlowHandler"}
    ConfigWorkflow.patch_bundle_tracking(parser, {"handlers_id": {"trainer": place}, "configs": {"trainer": own}})
    assert [handler["_target_"].split(".")[-1] for handler in parser["train#handlers"]] == [
        "NamedHandlers",
        "MLFlowHandler",
    ]
    assert parser["train#trainer#train_handlers"].replace("::", "#") == "@train#handlers"
