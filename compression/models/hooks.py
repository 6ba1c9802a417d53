"""Hooks on the modules of a model, for as long as a block of code runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

Pre = Callable[[str, nn.Module, tuple[Any, ...]], Any]
Post = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """The modules inside a model that hold no others, by name."""
    return {n: m for n, m in model.named_modules() if n and not list(m.children())}


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    *,
    pre: Pre | None = None,
    post: Post | None = None,
    first: bool = False,
) -> Iterator[None]:
    """Call `pre` before and `post` after every forward pass of the modules, until the block ends.

    Args:
        modules: by name, as `dict(model.named_modules())` has them.
        pre: gets name, module and positional inputs; a tuple that it returns replaces the inputs.
        post: gets name, module, inputs and output; what it returns, if anything, is the output.
        first: `pre` comes before the hooks that the modules have already.
    """
    handles = []
    try:
        for name, module in modules.items():
            if pre is not None:
                hook = partial(pre, name)
                handles.append(module.register_forward_pre_hook(hook, prepend=first))
            if post is not None:
                handles.append(module.register_forward_hook(partial(post, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
