"""What tests of the engine share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compression.catalogue import examples
from compression.catalogue.examples import Example


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
