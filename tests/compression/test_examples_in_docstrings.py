"""The examples that stand in the docstrings of public functions run."""

from __future__ import annotations

import doctest
import inspect

import pytest

import compression

pytestmark = pytest.mark.slow


NAMES = ("compress", "load", "load_model", "Target")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_in_a_docstring_gives_what_it_says(name: str) -> None:
    public = getattr(compression, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(public, name, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
    for section in ("Args:", "Raises:") if inspect.isfunction(public) else ("Args:",):
        assert section in (public.__doc__ or "")
