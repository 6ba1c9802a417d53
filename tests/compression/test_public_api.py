"""The public API explains itself: what goes in, what comes out, what is raised; examples run."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import compression

NAMES = sorted(compression.__all__)
FUNCTIONS = [
    name
    for name in NAMES
    if inspect.isfunction(inspect.unwrap(getattr(compression, name)))
    and not inspect.isclass(getattr(compression, name))
]


def doc_of(name: str) -> str:
    return inspect.getdoc(inspect.unwrap(getattr(compression, name))) or ""


def section_of(name: str, title: str) -> str:
    """What stands under `title:` in a docstring, without its indentation."""
    found = re.search(rf"^{title}:\n((?: +.*\n|\n)+)", doc_of(name) + "\n", re.MULTILINE)
    return inspect.cleandoc(found[1]) if found else ""


@pytest.mark.parametrize("name", NAMES)
def test_every_name_says_what_it_is(name: str) -> None:
    assert doc_of(name).split("\n")[0].endswith((".", ":", ",")) or "\n" in doc_of(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_explained(name: str) -> None:
    parameters = inspect.signature(inspect.unwrap(getattr(compression, name))).parameters
    explained = re.findall(r"^(\w+): ", section_of(name, "Args"), re.MULTILINE)
    assert explained == list(parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_comes_out_is_explained(name: str) -> None:
    """By `Returns:`, or by `Raises:` where the first sentence says what comes back."""
    assert section_of(name, "Returns") or section_of(name, "Raises")
    errors = re.findall(r"^(\w+): ", section_of(name, "Raises"), re.MULTILINE)
    for error in errors:
        assert issubclass(error_named(error), Exception)


def error_named(name: str) -> Any:
    from compression import errors

    return getattr(errors, name, None) or __builtins__[name]  # type: ignore[index]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name: str) -> None:
    assert ">>> " in section_of(name, "Example")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    part = doctest.DocTestParser().get_doctest(doc_of(name), {}, name, None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(part)
    assert result.failed == 0, capsys.readouterr().out
