"""Rate-distortion optimised rounding: the bits of a code weigh against the error it makes.

Pure functions of rows [g, o, d]. Rate-distortion optimised quantization as in DeepCABAC (Wiedemann
et al., 2020), in GPTQ's order and with its compensation as in CERWU (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compression.methods.calibration.second_moments import SecondMoments, damped
from compression.models.parametrize import QuantizationGrid

DAMPING = 0.003
SWEEPS = 6
# Extra bits for every code but zero, at first: some layers end with fewer bits if begun so.
STARTS = (0.0, 3.0)
# Steps of the grid, by what is best at few bits: a step's square per price of a bit.
STEP = 4.0
BLOCK = 128


def code_lengths(codes: Tensor, levels: int) -> Tensor:
    """Bits of each code, from 0 up, by how often it occurs: [levels].

    One of each is added to the counts, so that none is out of reach.
    """
    counts = torch.bincount(codes.flatten(), minlength=levels).double() + 1
    return -(counts / counts.sum()).log2().to(torch.float32)


@dataclass(frozen=True)
class RateDistortionProblem:
    """Rows w on a symmetric grid with least `w gram w' - 2 w wanted' + price * bits`.

    `gram` [g, d, d] is positive definite, `wanted` [g, o, d]; `keep` [g, o, d] is where weights
    may differ from zero; `price` [g, o, 1] is the error of each row that a bit is worth. Columns
    are gone through in blocks of `block`, between which products of matrices are taken.
    """

    gram: Tensor
    wanted: Tensor
    keep: Tensor
    grid: QuantizationGrid
    price: Tensor
    block: int = BLOCK

    def lengths(self, weight: Tensor) -> Tensor:
        """Bits of each code by how often these weights have it."""
        return code_lengths(self._codes(weight)[self.keep], self.grid.high - self.grid.low + 1)

    def cost(self, weight: Tensor, lengths: Tensor) -> float:
        """What is to be least, in bits, up to a constant."""
        loss = ((weight @ self.gram - 2 * self.wanted) * weight).sum(2, keepdim=True)
        bits = lengths[self._codes(weight)[self.keep]].double().sum()
        return float((loss / self.price).double().sum() + bits)

    def best(self) -> Tensor:
        """The rows with least error, were there no grid and no bits to pay."""
        factor = torch.linalg.cholesky(self.gram.double())
        solution = torch.cholesky_solve(self.wanted.double().transpose(1, 2), factor)
        return solution.transpose(1, 2).to(self.wanted.dtype).contiguous()

    def best_code(
        self, ideal: Tensor, curve: Tensor, keep: Tensor, lengths: Tensor, old: Tensor | None = None
    ) -> Tensor:
        """The values of a column [g, o, 1] with least `curve (w - ideal)² + price * bits`.

        Candidates are the nearest code, the next towards zero and zero, and the `old` value if
        there is one.

        Args:
            ideal: the values best without a grid, [g, o, 1].
            curve: half the second derivative of the error, [g, 1, 1].
            keep: where a value may differ from zero, bool [g, o, 1].
            lengths: bits of each code, [codes].
        """
        scale, low = self.grid.scale, self.grid.low
        nearest = torch.round(ideal / scale).clamp_(low, self.grid.high)
        candidates = [nearest, nearest - nearest.sign(), torch.zeros_like(nearest)]
        if old is not None:
            candidates.append(torch.round(old / scale))
        codes = torch.stack(candidates)
        values = codes * scale
        bits = lengths[(codes - low).long()]
        cost = curve * (values - ideal).square_() + self.price * bits
        value = values.gather(0, cost.argmin(0, keepdim=True))[0]
        return torch.where(keep, value, 0.0)

    def _codes(self, weight: Tensor) -> Tensor:
        return self.grid.encode(weight).long() - self.grid.low


def minimize_rate_distortion(
    target: Tensor,
    keep: Tensor,
    grid: QuantizationGrid,
    moments: SecondMoments,
    price: Tensor,
    block: int = BLOCK,
) -> Tensor:
    """Rows on the grid, zero where `keep` is False: near the target's output, and few bits.

    Minimises, for each row, |target r - w x|² over inputs x and the reference's inputs r, plus
    `price` [g, o, 1] for every bit of its codes. Bits are those of an entropy coder with one table
    for the layer, estimated again after every pass. Weights that see nothing but padding become
    zero.
    """
    active = moments.seen
    gram = damped(moments.gram, DAMPING)
    pull = (gram - moments.gram).diagonal(dim1=1, dim2=2).unsqueeze(1)
    wanted = target[..., active] @ moments.cross + pull * target[..., active]
    problem = RateDistortionProblem(gram, wanted, keep[..., active], grid, price, block)
    out = torch.zeros_like(target)
    out[..., active] = solve(problem)
    return out


def solve(problem: RateDistortionProblem) -> Tensor:
    """Rows of low cost: from the best of `STARTS`, each weight in turn until few move."""
    free = problem.best()
    nearest = torch.where(problem.keep, problem.grid.snap(free), 0.0)
    factor = _factor(problem.gram)
    best, least = nearest, float("inf")
    for extra in STARTS:
        lengths = problem.lengths(nearest) + extra
        lengths[-problem.grid.low] -= extra
        w = gptq_pass(problem, free, lengths, *factor)
        w = coordinate_descent(problem, w, problem.lengths(w))
        cost = problem.cost(w, problem.lengths(w))
        if cost < least:
            best, least = w, cost
    for _ in range(SWEEPS):
        before = best
        best = coordinate_descent(problem, best, problem.lengths(best))
        if int((best != before).sum()) < 1e-5 * best.numel():
            break
    return best


def _factor(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The order of columns, most power first, and the upper factor of the inverse in it."""
    order = gram.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram[:, order][:, :, order].double()))
    return order, torch.linalg.cholesky(inverse, upper=True).to(gram.dtype)


def gptq_pass(
    problem: RateDistortionProblem, weight: Tensor, lengths: Tensor, order: Tensor, upper: Tensor
) -> Tensor:
    """Column after column is chosen, and the columns to come make up for the error (GPTQ)."""
    w, keep = weight[..., order].clone(), problem.keep[..., order]
    for start in range(0, w.shape[2], problem.block):
        stop = min(start + problem.block, w.shape[2])
        block, triangle = w[..., start:stop], upper[:, start:stop, start:stop]
        errors = torch.empty_like(block)
        for j in range(stop - start):
            column, pivot = block[..., j : j + 1], triangle[:, j : j + 1, j : j + 1]
            curve = pivot.square().reciprocal_()
            value = problem.best_code(column, curve, keep[..., start + j, None], lengths)
            error = (column - value) / pivot
            block[..., j + 1 :] -= error * triangle[:, j : j + 1, j + 1 :]
            block[..., j : j + 1] = value
            errors[..., j : j + 1] = error
        w[..., stop:] -= errors @ upper[:, start:stop, stop:]
    back = torch.empty_like(w)
    back[..., order] = w
    return back


def coordinate_descent(problem: RateDistortionProblem, weight: Tensor, lengths: Tensor) -> Tensor:
    """Each weight in turn moves to what is cheapest with all others as they are: one sweep.

    The cost with these lengths never rises.
    """
    w, gram = weight.clone(), problem.gram
    residual = problem.wanted - w @ gram
    for start in range(0, w.shape[2], problem.block):
        stop = min(start + problem.block, w.shape[2])
        block, block_gram = w[..., start:stop], gram[:, start:stop, start:stop]
        before, left = block.clone(), residual[..., start:stop].clone()
        for j in range(stop - start):
            old, power = block[..., j : j + 1], block_gram[:, j : j + 1, j : j + 1]
            ideal = old + left[..., j : j + 1] / power
            new = problem.best_code(ideal, power, problem.keep[..., start + j, None], lengths, old)
            left -= (new - old) * block_gram[:, j : j + 1]
            block[..., j : j + 1] = new
        residual -= (block - before) @ gram[:, start:stop]
    return w


def rate_grid(rows: Tensor, moments: SecondMoments, price: Tensor, bits: int) -> QuantizationGrid:
    """A symmetric grid for each row [g, o, d] whose step goes with the price of a bit.

    Steps are powers of the square root of 2, for they are stored too, and so large that `bits`
    reach the row's largest weight. Coarser where a bit is worth more: at few bits an entropy
    coder's best uniform grid has a step that goes with the root of the price (Sullivan, 1996).
    """
    power = damped(moments.gram, DAMPING).diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
    high = 2 ** (bits - 1) - 1
    scale = torch.sqrt(STEP * price / power)
    scale = torch.maximum(scale, rows[..., moments.seen].abs().amax(2, keepdim=True) / high)
    scale = torch.exp2((2 * scale.log2()).ceil() / 2)
    return QuantizationGrid(scale, torch.zeros_like(scale, dtype=torch.int16), -high, high)
