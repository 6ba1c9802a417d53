"""Splits never overlap, are the same every time, and images arrive as models expect them."""

from dataclasses import replace

import pytest
import torch

from compression.data.augmentation import augment, shuffled_batches
from compression.data.datasets import FASHION_MNIST, INPUT_SHAPE, load_dataset
from compression.data.splits import Split
from compression.errors import InvalidInput


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_sizes_and_classes() -> None:
    data = load_dataset("fashion-mnist")
    assert [len(data.split(s)) for s in ("train", "calibration", "validation", "test")] == [
        55_000,
        2_000,
        5_000,
        10_000,
    ]
    assert len(data.classes) == 10 and int(data.train.labels.max()) == 9


@pytest.mark.slow
def test_validation_and_test_images_are_not_trained_on() -> None:
    data = load_dataset("fashion-mnist")
    trained = rows(data.train.images)
    # Fashion-MNIST itself holds a handful of duplicate images across its own files.
    assert len(trained & rows(data.validation.images)) < 10
    assert len(trained & rows(data.test.images)) < 10
    assert rows(data.calibration.images) <= trained


def test_every_class_is_held_out_about_equally() -> None:
    counts = load_dataset("fashion-mnist").validation.labels.bincount()
    assert counts.min() > 430 and counts.max() < 570


def test_validation_is_halved_into_what_is_searched_and_what_is_reported() -> None:
    data = load_dataset("fashion-mnist")
    search, report = data.split("search"), data.split("report")
    assert (search.name, report.name) == ("search", "report")
    assert len(search) == len(report) == len(data.validation) // 2
    counts = [half.labels.bincount(minlength=10) for half in (search, report)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1
    assert torch.equal(counts[0] + counts[1], data.validation.labels.bincount())
    images = torch.arange(21, dtype=torch.uint8).view(21, 1, 1, 1)
    few = replace(data, validation=Split("validation", images, torch.arange(21) % 3))
    parts = [half.images.flatten().tolist() for half in (few.search, few.report)]
    assert sorted(parts[0] + parts[1]) == list(range(21))  # each image in just one half
    again = replace(few)
    assert [half.images.flatten().tolist() for half in (again.search, again.report)] == parts


def test_an_unknown_split_or_data_set_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="split: got 'dev'"):
        load_dataset("fashion-mnist").split("dev")
    with pytest.raises(InvalidInput, match=r"dataset: got 'cifar'.*fashion-mnist"):
        load_dataset("cifar")


def test_prepared_images_are_normalised_padded_and_repeated() -> None:
    images = load_dataset("fashion-mnist").train.images
    x = FASHION_MNIST(images[:2000])
    assert x.shape[1:] == INPUT_SHAPE and x.dtype == torch.float32
    inside = x[:, 0, 2:30, 2:30]
    assert abs(float(inside.mean())) < 0.05 and abs(float(inside.std()) - 1) < 0.05
    assert torch.equal(x[:, 0], x[:, 2]) and bool((x[:, :, 0] == x.min()).all())


def test_augmentation_shifts_flips_erases_and_repeats_with_its_seed() -> None:
    images = torch.full((2000, 1, 28, 28), 9, dtype=torch.uint8)
    out = augment(images, torch.Generator().manual_seed(0))
    assert out.shape == (2000, 1, 32, 32)
    area = (out > 0).sum((1, 2, 3))
    whole = (area == 28 * 28).float().mean()
    assert 0.45 < whole < 0.62 and int(area.min()) > 28 * 28 - 13 * 13
    corner = (out[:, 0, 0, 0] > 0).float().mean()
    assert 0 < corner < 0.1
    again = augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)


def test_an_epoch_sees_each_image_at_most_once() -> None:
    split = load_dataset("fashion-mnist").train.head(1000)
    seen = [len(y) for _, y in shuffled_batches(split, 128, torch.Generator().manual_seed(0))]
    assert seen == [128] * 7
    tiny = split.head(5)
    assert [len(y) for _, y in shuffled_batches(tiny, 128, torch.Generator())] == [5]
