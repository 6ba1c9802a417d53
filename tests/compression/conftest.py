"""What tests of the engine share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compression.catalogue import examples
from compression.catalogue.examples import Example
from compression.methods import step_cache
from compression.paths import cache_dir


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, but for exported graphs: a model's takes seconds."""
    graphs, folder = cache_dir() / "graphs", tmp_path / "cache"
    graphs.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "graphs").symlink_to(graphs, target_is_directory=True)
    monkeypatch.setenv("COMPRESSION_CACHE", str(folder))
    step_cache._memory.clear()
    return folder


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write an example's file into an assets folder of the test's own."""
    monkeypatch.setattr(examples, "assets_dir", lambda: tmp_path)
    (tmp_path / "examples").mkdir()

    def put(one: Example, **changed: Any) -> Path:
        path = tmp_path / "examples" / f"{one.name}.json"
        document = json.loads(one.model_dump_json()) | changed
        path.write_text(json.dumps(document))
        return path

    return put
