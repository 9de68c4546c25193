"""How many bytes of tensors are alive at most while something runs, without running it: on the device `meta`.

Tensors on `meta` have shapes and no values, so that networks of any size are followed on any machine. What is counted
are the tensors that PyTorch holds, as its allocator would; not what kernels need for themselves, nor gaps between
blocks.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["LiveMemory", "fused_attention"]


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all storages that are made inside and alive; ``peak`` is the most there were at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {
            id(each.untyped_storage()) for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)
        }
        made = function(*args, **(kwargs or {}))
        for each in tree_flatten(made)[0]:
            if isinstance(each, torch.Tensor) and id(each.untyped_storage()) not in before:
                self._add(each.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if (known := self._seen.get(key)) is not None and known() is storage:
            return
        self._seen[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self._seen.pop(key, None)
        self.now -= size


class _Fused(torch.autograd.Function):
    """Attention that never holds all weights of tokens on tokens; it keeps what its backward pass needs."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        made = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention with the memory of a fused kernel, as GPUs have it; on `meta` PyTorch would take the plain one."""
    plain = functional.scaled_dot_product_attention

    def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return _Fused.apply(query, key, value)

    functional.scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention = plain
