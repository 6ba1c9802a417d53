"""What programs read in front of a model card is YAML, whatever the words in it."""

import pytest
import yaml  # type: ignore[import-untyped]

from compression.export.front_matter import Result, front_matter


@pytest.mark.parametrize(
    "words",
    ["plain", 'with "quotes": and #', "- a list", "ünïcode, \\ and\nlines", "---", "no", ""],
)
def test_any_words_come_back(words: str) -> None:
    text = front_matter(
        name=words,
        dataset=words,
        licence=words,
        pip_packages="numpy onnxruntime",
        tags=[words],
        results=[Result("validation", 0.9234, 5000)],
    )
    assert text.startswith("---\n") and text.endswith("\n---\n")
    front = yaml.safe_load(text[4:-4])
    assert front["tags"] == [words] and front["library_name"] == "onnx"
    assert front["license"] == "other" and front["license_name"] == (words or "not known")
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert index["name"] == result["dataset"]["name"] == words
    assert result["metrics"][0]["value"] == 0.9234
    assert "5,000 validation images" in result["metrics"][0]["name"]


def test_licences_and_libraries_have_the_names_of_the_hub() -> None:
    text = front_matter(
        name="a", dataset="b", licence="MIT", pip_packages="numpy torch", tags=[], results=[]
    )
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit" and "license_name" not in front
    assert front["library_name"] == "pytorch" and front["model-index"][0]["results"] == []
