"""Several readers at once: who gets which image, and when one comes back."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from monai_diffclf.monailabel.hand_out import HandOut, WithoutImages, judged


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A datastore of unlabelled images."""

    def __init__(self, *images: str) -> None:
        self.images = {image: {} for image in images}

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        return list(self.images)

    def get_image_info(self, image: str) -> dict[str, Any]:
        return self.images[image]


def first(store: Any) -> dict[str, Any] | None:
    names = sorted(store.get_unlabeled_images())
    return {"id": names[0]} if names else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hand_out(clock: Clock) -> HandOut:
    return HandOut(seconds=60, clock=clock)


def test_readers_get_different_images(hand_out: HandOut) -> None:
    store = Store("a", "b")
    assert hand_out.choose("ann", store, first) == {"id": "a"}
    assert hand_out.choose("bob", store, first) == {"id": "b"}
    assert hand_out.choose("cid", store, first) is None
    assert hand_out.choose("ann", store, first) == {"id": "a"}, "it is ann's own"
    assert hand_out.choose("ann", store, first, exclude=["a"]) is None


def test_image_comes_back_after_a_time(hand_out: HandOut, clock: Clock) -> None:
    store = Store("a", "b", "c")
    hand_out.choose("ann", store, first)
    clock.now = 59
    assert hand_out.choose("bob", store, first) == {"id": "b"}
    clock.now = 61
    assert hand_out.choose("cid", store, first) == {"id": "a"}, "ann has gone; bob has until 119"
    clock.now = 100
    hand_out.take("bob", "c")  # a sign of life
    clock.now = 150
    assert hand_out.hidden_from("dan") == {"b", "c"}


def test_answered_image_is_taken_back_from_its_own_reader_only(hand_out: HandOut) -> None:
    hand_out.take("ann", "a")
    hand_out.release("bob", "a")
    assert hand_out.hidden_from("bob") == {"a"}
    hand_out.release("ann", "a")
    assert hand_out.hidden_from("bob") == set()


def test_skipped_image_goes_to_others(hand_out: HandOut, clock: Clock) -> None:
    store = Store("a")
    hand_out.choose("ann", store, first)
    hand_out.skip("ann", "a")
    assert hand_out.choose("ann", store, first) is None
    assert hand_out.choose("bob", store, first) == {"id": "a"}
    clock.now = 61
    assert hand_out.choose("ann", store, first) == {"id": "a"}


def test_bad_images_are_nobodys_and_unsure_ones_others(hand_out: HandOut) -> None:
    store = Store("a", "b", "c")
    store.images["a"] = {"reading": {"ann": {"verdict": "bad image"}}}
    store.images["b"] = {"reading": {"ann": {"verdict": "unsure"}}}
    assert judged(store, "ann") == {"a", "b"} and judged(store, "bob") == {"a"}
    assert hand_out.choose("ann", store, first) == {"id": "c"}
    assert hand_out.choose("bob", store, first) == {"id": "b"}


def test_someone_without_a_name_holds_nothing_and_takes_nobodys(hand_out: HandOut) -> None:
    store = Store("a", "b")
    hand_out.take("ann", "a")
    assert [hand_out.choose("", store, first) for _ in range(2)] == [{"id": "b"}] * 2


def test_datastore_without_images_is_otherwise_the_same() -> None:
    store = Store("a", "b")
    view = WithoutImages(store, ["a"])
    assert view.get_unlabeled_images() == ["b"] and view.get_image_info("a") == {}
    again = copy.deepcopy(view)
    assert again.get_unlabeled_images() == ["b"] and again.images == store.images


def test_readers_at_the_same_time(hand_out: HandOut) -> None:
    store = Store(*(f"image{index:02d}" for index in range(40)))
    with ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(lambda index: hand_out.choose(f"reader{index}", store, first), range(40)))
    assert len({one["id"] for one in chosen if one}) == 40
