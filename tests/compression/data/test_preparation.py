"""What is stored becomes what the model is given: normalised by channel, padded, repeated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compression.data.datasets import FASHION_MNIST, MEAN, STD
from compression.data.preparation import Preparation
from compression.data.splits import Split

pixels = st.integers(0, 255)


@given(pixels, pixels, pixels)
def test_each_channel_has_its_own_mean_and_deviation(r: int, g: int, b: int) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    stored = torch.tensor([r, g, b], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    x = Preparation(mean, std)(stored)
    assert x.shape == (1, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last)
    for channel, value in enumerate((r, g, b)):
        expected = (value / 255 - mean[channel]) / std[channel]
        assert x[0, channel].flatten().tolist() == pytest.approx([expected] * 16, abs=1e-6)


def test_raw_pixels_are_what_is_normalised() -> None:
    stored = torch.arange(28 * 28 * 2, dtype=torch.int32).remainder(256).to(torch.uint8)
    stored = stored.view(2, 1, 28, 28)
    raw = FASHION_MNIST.raw(stored)
    assert raw.shape == (2, 3, 32, 32) and float(raw.min()) == 0 and float(raw.max()) == 1
    assert torch.equal(FASHION_MNIST(stored), (raw - MEAN) / STD)
    assert torch.equal(raw[:, :, 2:30, 2:30] * 255, stored.float().expand(-1, 3, -1, -1))


def test_what_is_stored_as_the_model_takes_it_stays() -> None:
    tokens = torch.arange(12).view(4, 3)
    split = Split("train", tokens, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(split.prepared(), tokens) and split.prepared().dtype == torch.int64
    assert torch.equal(split.prepare_raw(tokens), tokens)
    assert torch.equal(split.part(1, 3).images, tokens[1:3]) and len(split.head(9)) == 4
