"""The training loop. Masks and grids are parametrizations, so what is zero stays zero."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

from compression.errors import Cancelled
from compression.methods.distill import checkpoint
from compression.methods.distill.batches import Batches
from compression.methods.distill.config import Outcome, TrainingConfig
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
from compression.recipe.distill import BETWEEN_LAYERS
from compression.runs.durations.stages import STEP_STAGES
from compression.runs.progress import Progress


def distill(student: nn.Module, teacher: nn.Module, config: TrainingConfig) -> Outcome:
    """Train `student` in place, by the logits of `teacher` and by labels, as the step says.

    Both models come to the config's device. The result depends on models, step, images and seed
    alone: a training that was interrupted goes on from its checkpoint to the same last bit.

    Raises:
        CompressionError: the loss is no longer a number. The last good checkpoint stays.
        Cancelled: `report` raised it before the first step. Later, the best model so far is kept.
    """
    devices = [torch.cuda.current_device()] if config.device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)  # dropout, mixup
        trainer = Trainer(student, teacher, config)
        try:
            return trainer.run()
        finally:
            trainer.release()


class Trainer:
    """One training under way."""

    def __init__(self, student: nn.Module, teacher: nn.Module, config: TrainingConfig) -> None:
        step, device = config.step, config.device
        self.config, self.step = config, step
        self.dtype = torch.bfloat16 if step.precision == "bfloat16" else torch.float32
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self.teacher = teacher
        if step.needs_teacher:
            self.teacher = teacher.to(device).to(memory_format=torch.channels_last).eval()
        classes = self._classes() if step.mixup else 0
        self.batches = Batches(config.train, step, classes, config.seed, device)
        self.per_epoch = self.batches.per_epoch
        self.steps = step.epochs * self.per_epoch
        gpu = torch.cuda.get_device_name() if device == "cuda" else ""
        self.history = TrainingHistory(
            config.at, step.epochs, self.steps, self.per_epoch, self.batches.size, gpu
        )
        calibration = config.calibration if step.batchnorm == "live" else None
        self.handles = [] if calibration is None else freeze_dead_channels(student, calibration)
        self.grids = learned_grids(student) if step.grid == "learned" else []
        self.matching = self._match() if step.loss in BETWEEN_LAYERS else None
        self.optimizer = self._optimizer()
        self.schedule = Schedule(self.optimizer, step, self.steps, self.per_epoch)
        self.tracker = BestModelTracker(config.validate, calibration, step.early_stopping)
        self.taken = self.validated = 0  # steps
        self.saved, self.reported = time.monotonic(), -math.inf
        self.writing_seconds = 0.0  # that the last checkpoint took
        self.checkpoint_is_new = False  # since the last report
        self.teacher_logits: Tensor | None = None
        if self.batches.fixed and step.logits_only:
            self.teacher_logits = teacher_logits(
                self.batches.used, self.teacher, self.dtype, self._report_teacher_pass
            )

    def _match(self) -> Matching:
        example = self.batches.used.prepare(self.batches.images[:2])
        return Matching(self.student, self.teacher, self.step, example, self.config.seed)

    def _optimizer(self) -> torch.optim.Optimizer:
        scales = [q.scale for q in self.grids]
        scale_ids = {id(scale) for scale in scales}
        bridges = [] if self.matching is None else self.matching.bridges.parameters()
        weights = [p for p in self.student.parameters() if id(p) not in scale_ids]
        return make_optimizer([*weights, *bridges], scales, self.step)

    def _classes(self) -> int:
        one = self.config.train.head(1).prepared(self.config.device)
        with torch.no_grad():
            return int(self.student.eval()(one).shape[1])

    # The whole

    def run(self) -> Outcome:
        """Train to the end, or until early stopping or somebody ends it."""
        if not self._resume():
            self._validate()
            self.history.point(0, self.schedule.rate)
            self._save()
        stopped = False
        try:
            self._train()
        except Cancelled:
            if not self.taken:
                raise
            stopped = True
            if self.validated < self.taken:
                self._validate()
                self.history.point(self.taken, self.schedule.rate)
                self._report(None, curve=True, keeps=False)
        notes = []
        if stopped or self.tracker.stalled:
            progress = f"{self.taken / self.per_epoch:.3g} of {self.step.epochs} epochs"
            notes.append(self.tracker.go_back(self.student, stopped=stopped, progress=progress))
        if self.step.grid == "learned" and not self.grids:
            notes.append("No weight is on a grid, so there was no grid to learn.")
        self.student.eval()
        if not stopped and self.config.checkpoint is not None:
            self.config.checkpoint.unlink(missing_ok=True)
        return Outcome(self.history.curve(), tuple(notes), stopped)

    def _train(self) -> None:
        config, started, first = self.config, time.monotonic(), self.taken
        every = math.ceil(self.per_epoch / config.checks_per_epoch)
        every = max(every, config.steps_between_checks)
        point_every = max(1, math.ceil(self.steps / config.points))
        self._report(None, curve=True)
        while self.taken < self.steps and not self.tracker.stalled:
            self._train_step()
            ended = self.taken == self.steps
            check = ended or self.taken % every == 0
            if check:
                self._validate()
            point = check or self.taken % point_every == 0
            if point:
                self.history.point(self.taken, self.schedule.rate)
            now = time.monotonic()
            interval = checkpoint_interval(config.checkpoint_seconds, self.writing_seconds)
            if not ended and now - self.saved >= interval:
                self._save()
            if point or now - self.reported >= config.report_seconds:
                left = (now - started) / (self.taken - first) * (self.steps - self.taken)
                self._report(left, curve=point)

    def release(self) -> None:
        """Take away what training alone needed."""
        if self.matching is not None:
            self.matching.release()
        for quantizer in self.grids:
            quantizer.fix()
        for handle in self.handles:
            handle.remove()

    # One step

    def _train_step(self) -> None:
        started = time.perf_counter()
        if not self.student.training:
            train_mode(self.student, self.step)
        picked, images, targets = self.batches.at(self.taken)
        with arithmetic(self.config.device, self.dtype):
            logits = self.student(images)
            expected = self._expected_logits(picked, images)
        loss, hard, soft = distillation_loss(logits, expected, targets, self.step)
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
        self.history.add(loss.detach(), hard, soft, rate, time.perf_counter() - started)

    def _expected_logits(self, picked: Tensor, images: Tensor) -> Tensor | None:
        """The teacher's logits [n, classes], computed now or before; None if it takes no part."""
        if not self.step.needs_teacher:
            return None
        if self.teacher_logits is not None:
            return self.teacher_logits[picked]
        with torch.no_grad():
            logits: Tensor = self.teacher(images)
        return logits.float()

    # What is validated, reported and saved

    def _validate(self) -> None:
        """A validation check: for the schedule, for early stopping, for the best model so far."""
        self.history.check(self.taken)  # no check once the loss is no number
        top1 = self.tracker.validate(self.student, self.taken / self.per_epoch)
        self.validated = self.taken
        self.history.validated(top1)
        if self.taken:
            self.schedule.validated(top1.value)

    def _report(self, left: float | None, *, curve: bool, keeps: bool = True) -> None:
        self.reported = time.monotonic()
        if self.config.report is None:
            return
        progress = Progress(
            stage=STEP_STAGES[self.step.step],
            at=self.config.at,
            epochs=self.step.epochs,
            fraction=self.taken / self.steps,
            seconds_left=left,
            point=self.history.now(self.taken),
            keeps=keeps and self.taken > 0,
            saved=self.checkpoint_is_new,
            curve=self.history.curve() if curve else None,
        )
        self.checkpoint_is_new = False
        self.config.report(progress)

    def _report_teacher_pass(self) -> None:
        due = time.monotonic() - self.reported >= self.config.report_seconds
        if self.config.report and due:
            self.reported = time.monotonic()
            title = "Computing teacher logits"
            self.config.report(Progress(stage=title, fraction=0.0, at=self.config.at))

    def _save(self) -> None:
        """Write a checkpoint, unless it would keep what is already lost."""
        started = time.monotonic()
        self._write()
        self.saved = time.monotonic()
        self.writing_seconds = self.saved - started

    def _write(self) -> None:
        path = self.config.checkpoint
        self.history.check(self.taken)
        if path is None or not all(bool(p.isfinite().all()) for p in self.student.parameters()):
            return
        bridges = None if self.matching is None else self.matching.bridges.state_dict()
        state = {part: getattr(self, part).state_dict() for part in _SAVED}
        state |= {"bridges": bridges, "taken": self.taken, "order": self.batches.order}
        state["random"] = checkpoint.random_state(self.batches.generator, self.config.device)
        self.checkpoint_is_new = checkpoint.write(path, state)

    def _resume(self) -> bool:
        """Go on from the checkpoint if there is one for this very student."""
        path = self.config.checkpoint
        state = None if path is None else checkpoint.read(path)
        if state is None or state["student"].keys() != self.student.state_dict().keys():
            return False
        for part in _SAVED:
            getattr(self, part).load_state_dict(state[part])
        if self.matching is not None:
            self.matching.bridges.load_state_dict(state["bridges"])
        self.taken, self.batches.order = state["taken"], state["order"]
        checkpoint.set_random_state(self.batches.generator, self.config.device, state["random"])
        return True


# What keeps its state in a checkpoint, in the order of loading.
_SAVED = ("student", "optimizer", "schedule", "history", "tracker")


def checkpoint_interval(least: float, writing: float) -> float:
    """Seconds between checkpoints of which one takes `writing` seconds: `least`, or in proportion
    longer where writing takes more than a third of a second."""
    return least * max(1.0, 3 * writing)
