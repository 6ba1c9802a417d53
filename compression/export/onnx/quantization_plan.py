"""Which operations of a float32 graph run on codes, and on which grid each tensor lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from compression.export.onnx.calibration import (
    CODES,
    ActivationRange,
    best_range,
    grid,
    widest,
)
from compression.export.onnx.operators import GATES, LAYERS, WEIGHTED, Flow, Kind, Op

# Where a hard sigmoid starts to differ from zero.
_BEND = -3.0


@dataclass(frozen=True)
class Scale:
    """Values are `scale * (code - zero)` for codes 0 to `high` in a uint8."""

    scale: float
    zero: int
    high: int = CODES


@dataclass
class Plan:
    """What runs on codes: operations by the name of their first output; grids by tensor.

    `input_scales` are grids of layers' inputs by the layers' names, `group_scales` those that
    groups of tensors have of them. A layer in `apart` has codes of its own made of its input.
    """

    flow: Flow
    input_scales: Mapping[str, Scale]
    coded: set[str] = field(default_factory=set)
    scales: dict[str, Scale] = field(default_factory=dict)
    group_scales: dict[str, Scale] = field(default_factory=dict)
    apart: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    group: dict[str, str] = field(default_factory=dict)

    def runs(self, op: Op) -> bool:
        """Whether the operation runs on codes."""
        return op.outputs[0] in self.coded

    def root(self, name: str) -> str:
        """The tensor that stands for all that share a grid with this one."""
        while self.group.get(name, name) != name:
            name = self.group[name]
        return name

    def share(self, a: str, b: str) -> None:
        """Give two tensors one grid."""
        self.group[self.root(a)] = self.root(b)


def choose_ops(flow: Flow, input_scales: Mapping[str, Scale]) -> Plan:
    """Decide what runs on codes; no grids yet."""
    plan = Plan(flow, input_scales)
    codes: set[str] = set()
    for op in flow.ops:
        if _can_run(op, codes) and not (op.kind in GATES and not _gates(flow, op)):
            plan.coded.add(op.outputs[0])
            if gives_codes(plan, op):
                codes |= set(op.outputs)
    changed = True
    while changed:
        idle = {o.outputs[0] for o in flow.ops if plan.runs(o) and _idle(plan, o)}
        changed = bool(idle)
        plan.coded -= idle
        codes -= {n for o in flow.ops if o.outputs[0] in idle for n in o.outputs}
        # what lost its codes cannot feed what needs them
        stuck = {o.outputs[0] for o in flow.ops if plan.runs(o) and not _can_run(o, codes)}
        plan.coded -= stuck
        codes -= {n for o in flow.ops if o.outputs[0] in stuck for n in o.outputs}
        changed |= bool(stuck)
    return plan


def _can_run(op: Op, codes: set[str]) -> bool:
    if op.kind in WEIGHTED:
        return True
    return op.kind is not Kind.FLOAT and all(name in codes for name in op.inputs)


def _gates(flow: Flow, op: Op) -> bool:
    """Whether a hard sigmoid can be had by reading a layer's codes on another grid."""
    maker = next((o for o in flow.ops if op.inputs[0] in o.outputs), None)
    users = flow.uses.get(op.outputs[0], [])
    alone = len(flow.uses[op.inputs[0]]) == 1 and maker is not None and maker.kind in LAYERS
    return alone and (op.kind is Kind.HARD_SWISH or all(u.kind is Kind.MUL for u in users))


def _feeds_layers(flow: Flow, name: str) -> bool:
    """Whether a product is best kept as codes, because a layer takes it next."""
    if name in flow.outputs:
        return False
    users = flow.uses.get(name, [])
    return bool(users) and all(
        u.kind in WEIGHTED | GATES or (u.kind is Kind.MOVE and _feeds_layers(flow, u.outputs[0]))
        for u in users
    )


def _idle(plan: Plan, op: Op) -> bool:
    """Whether nothing that runs on codes takes what an operation other than a layer gives."""
    return op.kind not in LAYERS and not any(_fed(plan, n) for n in op.outputs)


def _fed(plan: Plan, name: str) -> bool:
    for user in plan.flow.uses.get(name, []):
        if user.kind is Kind.MOVE and plan.runs(user):
            if any(_fed(plan, n) for n in user.outputs):
                return True
        elif plan.runs(user):
            return True
    return False


def coded_tensors(plan: Plan) -> Iterator[str]:
    """All tensors that are held as codes, in order."""
    names: dict[str, None] = {}
    for op in plan.flow.ops:
        if plan.runs(op):
            names |= dict.fromkeys(op.inputs)
            if gives_codes(plan, op):
                names |= dict.fromkeys(op.outputs)
    yield from names


def gives_codes(plan: Plan, op: Op) -> bool:
    """Whether an operation that runs on codes gives codes too."""
    if op.kind in (Kind.GEMM, Kind.MATMUL):
        return op.kind is Kind.GEMM and _feeds_layers(plan.flow, op.outputs[0])
    return True


def choose_groups(plan: Plan) -> list[str]:
    """Find which tensors share a grid, and which of them must be looked at to choose one.

    Codes that are only moved keep their grid. What is joined to others takes the joint one, if
    nothing else uses it and no grid of ours says otherwise.
    """
    running = [op for op in plan.flow.ops if plan.runs(op)]
    for op in running:
        if op.kind is Kind.MOVE:
            for name in op.outputs:
                plan.share(name, op.inputs[0])
    users: dict[str, list[Op]] = {}
    for op in running:
        if op.kind is not Kind.MOVE:
            for name in dict.fromkeys(op.inputs):
                users.setdefault(plan.root(name), []).append(op)
    gated = {n for op in running if op.kind is Kind.HARD_SIGMOID for n in op.outputs}
    for op in running:
        if op.kind is Kind.CONCAT:
            for name in op.inputs:
                if name not in gated:
                    _join(plan, users, plan.root(name), plan.root(op.outputs[0]))
    for root, ops in users.items():
        _settle(plan, root, ops)
    moved = {n for op in running if op.kind is Kind.MOVE for n in op.outputs}
    undecided = [n for n in coded_tensors(plan) if plan.root(n) not in plan.group_scales]
    return [n for n in undecided if n not in moved]


def _join(plan: Plan, users: dict[str, list[Op]], part: str, whole: str) -> None:
    if part == whole or len(users[part]) > 1:
        return
    scales = {plan.input_scales.get(op.layer) for op in users.get(whole, [])} - {None}
    if len(scales) > 1:
        return
    plan.share(part, whole)
    users.setdefault(whole, []).extend(users.pop(part))


def _settle(plan: Plan, root: str, users: list[Op]) -> None:
    """Choose among the grids of ours for a group: the widest where its layers have several.

    Grids of fewer than 8 bits only where no other operation would have to do with so few.
    """
    users = [op for op in users if not _inside(plan, op, root)]
    scales = {
        op.layer: plan.input_scales[op.layer] for op in users if op.layer in plan.input_scales
    }
    narrow = {s for s in scales.values() if s.high < CODES}
    if narrow and (len(set(scales.values())) > 1 or len(scales) < len(users)):
        plan.apart |= {n for n, s in scales.items() if s.high < CODES}
        scales = {n: s for n, s in scales.items() if s.high == CODES}
    if not scales:
        return
    plan.group_scales[root] = max(scales.values(), key=lambda s: s.scale)
    others = [n for n, s in scales.items() if s != plan.group_scales[root]]
    if others:
        plan.notes.append(
            f"Layers share an input but not its grid; these take the widest: {', '.join(others)}."
        )


def _inside(plan: Plan, op: Op, root: str) -> bool:
    """Whether an operation joins codes of a group to that group."""
    return op.kind is Kind.CONCAT and plan.root(op.outputs[0]) == root


def choose_scales(plan: Plan, seen: Mapping[str, ActivationRange]) -> None:
    """Give every tensor that is held as codes its grid."""
    gates = [o for o in plan.flow.ops if plan.runs(o) and o.kind in GATES]
    gated = {plan.root(o.inputs[0]) for o in gates}
    looked: dict[str, list[ActivationRange]] = {}
    for name, values in seen.items():
        looked.setdefault(plan.root(name), []).append(values)
    chosen = {r: _gate(widest(v)) if r in gated else _best(v) for r, v in looked.items()}
    chosen |= plan.group_scales
    for name in coded_tensors(plan):
        plan.scales[name] = chosen[plan.root(name)]
    for op in plan.flow.ops:
        if plan.runs(op) and op.kind is Kind.HARD_SIGMOID:
            of = plan.scales[op.inputs[0]]
            plan.scales[op.outputs[0]] = Scale(of.scale / 6, 0)


def _best(seen: Iterable[ActivationRange]) -> Scale:
    return Scale(*grid(*best_range(widest(seen))))


def _gate(seen: ActivationRange) -> Scale:
    """From -3, below which a hard sigmoid is zero, in such steps that -3 is a code."""
    _, most = best_range(seen, _BEND)
    zero = max(int(-_BEND * CODES / max(most - _BEND, -_BEND)), 1)
    return Scale(-_BEND / zero, zero)
