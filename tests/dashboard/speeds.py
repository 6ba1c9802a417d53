"""Speeds of runs as the engine measures them, with figures chosen by a test."""

from __future__ import annotations

from typing import Any

from compression.runs.results import (
    Exported,
    Latency,
    LatencyReport,
    LayerTime,
    Roof,
    Run,
    SpeedupAnalysis,
    Timing,
)
from compression.runs.statistics import Interval, Ratio

_BACKEND = {"onnx": "ONNX Runtime 1.31.1 float32", "onnx-int8": "ONNX Runtime 1.31.1 int8"}
REASON = "Zeros are multiplied too: 80 % of the weights are zero but stay in dense kernels."


def latency(backend: str, p50_ms: float, threads: int = 1, batch: int = 1) -> Latency:
    """One model's times, with the usual tails."""
    return Latency(
        backend=_BACKEND.get(backend, backend),
        threads=threads,
        batch=batch,
        p50_ms=p50_ms,
        p90_ms=1.1 * p50_ms,
        p99_ms=1.4 * p50_ms,
    )


def timing(
    backend: str, before_ms: float, after_ms: float, threads: int = 1, batch: int = 1, **more: Any
) -> Timing:
    """Original and compressed, interleaved; int8 against the original's float32."""
    against = "onnx" if backend == "onnx-int8" else backend
    ratio = before_ms / after_ms
    return Timing(
        backend=backend,
        original_backend=against,
        baseline=latency(against, before_ms, threads, batch),
        compressed=latency(backend, after_ms, threads, batch),
        ratio=Ratio(value=ratio, low=0.98 * ratio, high=1.02 * ratio),
        control=Ratio(value=1.002, low=0.99, high=1.015),
        **more,
    )


def with_speeds(run: Run, float_ms: float = 2.6, int8_ms: float | None = 0.88) -> Run:
    """The run as a newer engine measures it: int8 too, files, and what was to be expected."""
    assert run.baseline is not None and run.compressed is not None and run.delta is not None
    timings = [timing("onnx", 2.53, float_ms)]
    timings += [] if int8_ms is None else [timing("onnx-int8", 2.53, int8_ms)]
    expected = {"onnx": 5.0, "onnx-int8": 2.8}
    accounts = [
        SpeedupAnalysis(
            backend=t.backend,
            expected=expected[t.backend],
            measured=t.ratio,
            reasons=(REASON,) if t.ratio.high < expected[t.backend] else (),
        )
        for t in timings
    ]
    small = {"onnx_bytes": 44_860_000, "int8_bytes": None if int8_ms is None else 11_400_000}
    return run.model_copy(
        update={
            "timings": tuple(timings),
            "accounts": tuple(accounts),
            "baseline": run.baseline.model_copy(update={"onnx_bytes": 44_860_000}),
            "compressed": run.compressed.model_copy(update=small),
            "delta": run.delta.model_copy(update={"latency_ratio": timings[0].ratio}),
            "exported": () if int8_ms is None else (int8_file(),),
        }
    )


def int8_file() -> Exported:
    """The int8 graph of a run, looked at on validation images."""
    top1 = Interval(value=0.9146, low=0.9065, high=0.922, n=5000)
    return Exported(
        format="onnx-int8", file_bytes=11_400_000, difference=0.04, agreement=0.9942, top1=top1
    )


_STAGES = {"layer1": (64, 32), "layer2": (128, 16), "layer3": (256, 8), "layer4": (512, 4)}


def layer_times(saves: float = 3.0) -> tuple[LayerTime, ...]:
    """The convolutions of a ResNet-18 at 32 pixels, the compressed ones `saves` times faster."""
    layers = [_conv("conv1", 3, 64, 32, 7, saves)]
    before = 64
    for stage, (channels, side) in _STAGES.items():
        for block in range(2):
            layers.append(_conv(f"{stage}.{block}.conv1", before, channels, side, 3, saves))
            layers.append(_conv(f"{stage}.{block}.conv2", channels, channels, side, 3, saves))
            before = channels
    return (*layers, _linear("fc", 512, 10))


def _conv(name: str, wide: int, out: int, side: int, kernel: int, saves: float) -> LayerTime:
    macs = wide * out * side * side * kernel * kernel
    moved = 4 * (wide * out * kernel * kernel + (wide + out) * side * side)
    ms = 1000 * max(macs / 6.5e10, moved / 9e9) + 0.004
    return LayerTime(
        name=name,
        kind="Conv",
        original_ms=ms,
        compressed_ms=ms / saves + 0.004,
        original_macs=macs,
        compressed_macs=macs,
        original_bytes=moved,
        compressed_bytes=moved // 4,
    )


def _linear(name: str, wide: int, out: int) -> LayerTime:
    return LayerTime(
        name=name,
        kind="Gemm",
        original_ms=0.006,
        compressed_ms=0.007,
        original_macs=wide * out,
        compressed_macs=wide * out,
        original_bytes=4 * wide * out,
        compressed_bytes=wide * out,
    )


ROOFS = (
    Roof(numbers="float32", threads=1, macs_per_second=7.5e10, bytes_per_second=1.2e10),
    Roof(numbers="int8", threads=1, macs_per_second=2.6e11, bytes_per_second=1.2e10),
    Roof(numbers="float32", threads=2, macs_per_second=1.4e11, bytes_per_second=1.6e10),
)


def report() -> LatencyReport:
    """Latency in depth as a CPU with two cores gives it."""
    return LatencyReport(
        timings=(
            timing("eager", 5.1, 5.0, busy=0.04),
            timing("compile", 3.3, 3.25, ready_seconds=14.2, busy=0.03),
            timing("onnx", 2.53, 2.6, ready_seconds=0.4, busy=0.02),
            timing("onnx-int8", 2.53, 0.88, ready_seconds=1.9, busy=0.02),
        ),
        sweep=tuple(
            timing(backend, ms(b, n), ms(b, n) / gain, n, b)
            for backend, gain in (("onnx", 1.0), ("onnx-int8", 2.9))
            for n in (1, 2)
            for b in (1, 2, 8, 32)
        ),
        layers=layer_times(),
        layers_backend="onnx-int8",
        roofs=ROOFS,
        environment={"device": "AMD EPYC"},
        notes=("OpenVINO is not installed.",),
    )


def ms(batch: int, threads: int) -> float:
    """Time of a call: a fixed part, and one that grows with the batch and shrinks with threads."""
    took: float = 0.3 + 2.2 * batch**0.94 / threads**0.8
    return took
