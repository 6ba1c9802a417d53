"""The training loop. Masks and grids are parametrizations, so what is zero stays zero."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compression.errors import Cancelled
from compression.methods.distill import checkpoint
from compression.methods.distill.batches import Batches
from compression.methods.distill.early_stopping import BestModelTracker
from compression.methods.distill.feature_matching import Matching
from compression.methods.distill.history import TrainingHistory
from compression.methods.distill.losses import distillation_loss
from compression.methods.distill.mixed_precision import arithmetic
from compression.methods.distill.optimizers import Schedule, make_optimizer
from compression.methods.distill.student import (
    freeze_dead_channels,
    learned_grids,
    magnitude,
    train_mode,
)
from compression.methods.distill.teacher_logits import teacher_logits
from compression.models.data import Split, prepare
from compression.recipe.distill import BETWEEN_LAYERS
from compression.recipe.steps import Distill
from compression.runs.progress import Curve, Progress
from compression.runs.statistics import Interval

POINTS = 120
LOOKS_PER_EPOCH = 2
# Looking at validation costs as much as many steps: not more often than this, however few images.
LEAST_STEPS = 40
REPORT_SECONDS = 0.5
CHECKPOINT_SECONDS = 45.0
_ASKING = Progress(stage="Asking the original", fraction=0.0)


@dataclass(frozen=True)
class TrainingConfig:
    """What a training goes by, beside the two models.

    `look` gives the validation accuracy of a model, `report` is told how far it is and may raise
    `Cancelled`, `checkpoint` is where the training is kept once a minute, `at` the step's place in
    the recipe.

    Before every look the statistics of live batch normalisation are taken anew from `calibration`,
    prepared images: a running mean lags behind weights that jump from one code to the next (Nagel
    et al., 2022), and where pruning left a channel constant, its variance is nothing and any lag
    is amplified three hundred times.
    """

    step: Distill
    train: Split
    look: Callable[[nn.Module], Interval]
    seed: int
    calibration: Tensor | None = None
    device: str = "cpu"
    at: int = 0
    report: Callable[[Progress], None] | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a training went: its curve, what there is to say, whether somebody stopped it."""

    curve: Curve
    notes: tuple[str, ...]
    stopped: bool


def distill(student: nn.Module, teacher: nn.Module, lesson: TrainingConfig) -> Outcome:
    """Train `student` in place, by the answers of `teacher` and by labels, as the step says.

    Both models come to the lesson's device. The result depends on models, step, images and seed
    alone: a training that was interrupted goes on from its checkpoint to the same last bit.

    Raises:
        CompressionError: the loss is no longer a number. The last good checkpoint stays.
        Cancelled: `report` raised it before the first step. Later, the best model so far is kept.
    """
    devices = [torch.cuda.current_device()] if lesson.device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(lesson.seed)  # dropout, mixup
        training = Trainer(student, teacher, lesson)
        try:
            return training.run()
        finally:
            training.release()


class Trainer:
    """One training under way."""

    def __init__(self, student: nn.Module, teacher: nn.Module, lesson: TrainingConfig) -> None:
        step, device = lesson.step, lesson.device
        self.lesson, self.step = lesson, step
        self.dtype = torch.bfloat16 if step.precision == "bfloat16" else torch.float32
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self.teacher = teacher
        if step.needs_teacher:
            self.teacher = teacher.to(device).to(memory_format=torch.channels_last).eval()
        classes = self._classes() if step.mixup else 0
        self.batches = Batches(lesson.train, step, classes, lesson.seed, device)
        self.per_epoch = self.batches.per_epoch
        self.steps = step.epochs * self.per_epoch
        name = torch.cuda.get_device_name() if device == "cuda" else ""
        self.record = TrainingHistory(
            lesson.at, step.epochs, self.steps, self.per_epoch, self.batches.size, name
        )
        live = step.batchnorm == "live" and lesson.calibration is not None
        calibration = lesson.calibration if live else None
        self.silenced = [] if calibration is None else freeze_dead_channels(student, calibration)
        self.grids = learned_grids(student) if step.grid == "learned" else []
        self.matching = self._match() if step.loss in BETWEEN_LAYERS else None
        self.optimizer = self._optimizer()
        self.schedule = Schedule(self.optimizer, step, self.steps, self.per_epoch)
        self.judge = BestModelTracker(lesson.look, calibration, step.early_stopping)
        self.taken = self.looked = 0
        self.saved = time.monotonic()
        self.told = -math.inf
        self.fresh = False  # a checkpoint that nobody has been told of
        self.answers: Tensor | None = None
        if self.batches.fixed and step.logits_only:
            images = self.batches.images
            self.answers = teacher_logits(images, self.teacher, self.dtype, self._tell_asking)

    def _match(self) -> Matching:
        example = prepare(self.batches.images[:2])
        return Matching(self.student, self.teacher, self.step, example, self.lesson.seed)

    def _optimizer(self) -> torch.optim.Optimizer:
        scales = [q.scale for q in self.grids]
        apart = {id(scale) for scale in scales}
        bridges = [] if self.matching is None else self.matching.bridges.parameters()
        weights = [p for p in self.student.parameters() if id(p) not in apart]
        return make_optimizer([*weights, *bridges], scales, self.step)

    def _classes(self) -> int:
        one = prepare(self.lesson.train.images[:1].to(self.lesson.device))
        with torch.no_grad():
            return int(self.student.eval()(one).shape[1])

    # The whole

    def run(self) -> Outcome:
        """Train to the end, or until early stopping or somebody ends it."""
        if not self._resume():
            self._look()
            self.record.point(0, self.schedule.rate)
            self._save()
        stopped = False
        try:
            self._train()
        except Cancelled:
            if not self.taken:
                raise
            stopped = True
            if self.looked < self.taken:  # it has learned since the last look
                self._look()
                self.record.point(self.taken, self.schedule.rate)
                self._tell(None, curve=True, keeps=False)
        notes = []
        if stopped or self.judge.stalled:
            done = f"{self.taken / self.per_epoch:.3g} of {self.step.epochs} epochs"
            notes.append(self.judge.go_back(self.student, stopped=stopped, done=done))
        if self.step.grid == "learned" and not self.grids:
            notes.append("No weight is on a grid, so there was no grid to learn.")
        self.student.eval()
        if not stopped and self.lesson.checkpoint is not None:
            self.lesson.checkpoint.unlink(missing_ok=True)
        return Outcome(self.record.curve(), tuple(notes), stopped)

    def _train(self) -> None:
        started, first = time.monotonic(), self.taken
        look_every = max(math.ceil(self.per_epoch / LOOKS_PER_EPOCH), LEAST_STEPS)
        point_every = max(1, math.ceil(self.steps / POINTS))
        self._tell(None, curve=True)
        while self.taken < self.steps and not self.judge.stalled:
            self._learn()
            ended = self.taken == self.steps
            looked = ended or self.taken % look_every == 0
            if looked:
                self._look()
            pointed = looked or self.taken % point_every == 0
            if pointed:
                self.record.point(self.taken, self.schedule.rate)
            now = time.monotonic()
            if not ended and now - self.saved >= CHECKPOINT_SECONDS:
                self._save()
            if pointed or now - self.told >= REPORT_SECONDS:
                left = (now - started) / (self.taken - first) * (self.steps - self.taken)
                self._tell(left, curve=pointed)

    def release(self) -> None:
        """Take away what training alone needed."""
        if self.matching is not None:
            self.matching.release()
        for quantizer in self.grids:
            quantizer.fix()
        for handle in self.silenced:
            handle.remove()

    # One step

    def _learn(self) -> None:
        started = time.perf_counter()
        if not self.student.training:
            train_mode(self.student, self.step)
        picked, images, targets = self.batches.at(self.taken)
        with arithmetic(self.lesson.device, self.dtype):
            logits = self.student(images)
            answers = self._teach(picked, images)
        loss, hard, soft = distillation_loss(logits, answers, targets, self.step)
        if self.matching is not None:
            loss = loss + self.step.layer_weight * self.matching.distance()
        if self.step.l1:
            loss = loss + self.step.l1 * magnitude(self.student)
        rate = self.schedule.rate
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for quantizer in self.grids:
            quantizer.bound()
        self.schedule.advance()
        self.taken += 1
        hard, soft = (None if part is None else part.detach() for part in (hard, soft))
        self.record.add(loss.detach(), hard, soft, rate, time.perf_counter() - started)

    def _teach(self, picked: Tensor, images: Tensor) -> Tensor | None:
        if not self.step.needs_teacher:
            return None
        if self.answers is not None:
            return self.answers[picked]
        with torch.no_grad():
            logits: Tensor = self.teacher(images)
        return logits.float()

    # What is judged, kept and told

    def _look(self) -> None:
        """Look at validation: for the schedule, for early stopping, for the best model so far."""
        self.record.check(self.taken)  # nothing is judged once the loss is no number
        found = self.judge.look(self.student, self.taken / self.per_epoch)
        self.looked = self.taken
        self.record.look(found)
        if self.taken:
            self.schedule.look(found.value)

    def _tell(self, left: float | None, *, curve: bool, keeps: bool = True) -> None:
        self.told = time.monotonic()
        if self.lesson.report is None:
            return
        said = Progress(
            stage="Distilling",
            fraction=self.taken / self.steps,
            seconds_left=left,
            point=self.record.now(self.taken),
            keeps=keeps and self.taken > 0,
            saved=self.fresh,
            curve=self.record.curve() if curve else None,
        )
        self.fresh = False
        self.lesson.report(said)

    def _tell_asking(self) -> None:
        if self.lesson.report and time.monotonic() - self.told >= REPORT_SECONDS:
            self.told = time.monotonic()
            self.lesson.report(_ASKING)

    def _save(self) -> None:
        """Write a checkpoint, unless it would keep what is already lost."""
        self.saved = time.monotonic()
        path = self.lesson.checkpoint
        self.record.check(self.taken)
        if path is None or not all(bool(p.isfinite().all()) for p in self.student.parameters()):
            return
        bridges = None if self.matching is None else self.matching.bridges.state_dict()
        self.fresh = checkpoint.write(
            path,
            {
                "student": self.student.state_dict(),
                "bridges": bridges,
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "record": self.record.state(),
                "judge": self.judge.state(),
                "taken": self.taken,
                "order": self.batches.order,
                "random": checkpoint.random_state(self.batches.generator, self.lesson.device),
            },
        )

    def _resume(self) -> bool:
        """Go on from the checkpoint if there is one for this very student."""
        path = self.lesson.checkpoint
        state = None if path is None else checkpoint.read(path)
        if state is None or state["student"].keys() != self.student.state_dict().keys():
            return False
        self.student.load_state_dict(state["student"])
        if self.matching is not None:
            self.matching.bridges.load_state_dict(state["bridges"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.record.load(state["record"])
        self.judge.load(state["judge"])
        self.taken = state["taken"]
        self.batches.order = state["order"]
        checkpoint.set_random_state(self.batches.generator, self.lesson.device, state["random"])
        return True
