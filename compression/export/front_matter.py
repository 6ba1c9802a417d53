"""The lines in front of a model card that programs read, as Hugging Face's model cards have them.

https://huggingface.co/docs/hub/model-cards. YAML, written as JSON values behind its keys, which is
YAML too and needs no library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LIBRARIES = {"torch": "pytorch", "onnxruntime": "onnx"}
# Licences by the names that Hugging Face has for them; any other is "other", named beside it.
_LICENCES = {"MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "Apache-2.0": "apache-2.0"}


@dataclass(frozen=True)
class Result:
    """Top-1 accuracy as a fraction of `images` of a split of the data."""

    split: str
    accuracy: float
    images: int


def front_matter(
    *,
    name: str,
    dataset: str,
    licence: str,
    pip_packages: str,
    tags: Sequence[str],
    results: Sequence[Result],
) -> str:
    """The block of YAML between two lines of dashes, ended by a newline.

    Args:
        name: of the model.
        dataset: what it is trained and measured on, in words.
        licence: of its weights, as its catalogue card says.
        pip_packages: what runs the file, separated by blanks; the last is its library.
        tags: words to find it by.
        results: one for each split on which accuracy was measured.
    """
    library = pip_packages.split()[-1]
    known = _LICENCES.get(licence)
    entries: dict[str, Any] = {
        "license": known or "other",
        **({} if known else {"license_name": licence or "not known"}),
        "library_name": _LIBRARIES.get(library, library),
        "pipeline_tag": "image-classification",
        "tags": list(tags),
        "metrics": ["accuracy"],
        "model-index": [
            {"name": name, "results": [_result(result, dataset) for result in results]}
        ],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    return "\n".join(["---", *lines, "---"]) + "\n"


def _result(result: Result, dataset: str) -> dict[str, Any]:
    metric = {
        "type": "accuracy",
        "name": f"top-1 on {result.images:,} {result.split} images",
        "value": result.accuracy,
    }
    data = {"name": dataset, "type": dataset.lower(), "split": result.split}
    return {"task": {"type": "image-classification"}, "dataset": data, "metrics": [metric]}
