"""The weighted geometric median on the sphere, batched: the point of least expected great-circle distance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.geo.distance import EARTH_RADIUS_KM

MOST_STEPS = 300
STEPS_TOGETHER = 6  # then rows that are done are left alone, for one slow row would make all of them wait
TOUCHES_RAD = 5e-8  # 0.3 m: nearer points count as the very same; arccos resolves no less in float64
SLACK_RAD = 2e-9  # 1 cm: by so much a step may seem to lead uphill, which is arccos's noise
FAR_RAD = 0.3  # no step is longer
CANDIDATES = 4  # heaviest points that may start a search
MANY = 192  # of more points, the heaviest of each row are searched first, and all of them from there
HEAVIEST = 64


class _Points(NamedTuple):
    """Weighted points: p (B, K) with rows that sum to 1, v (K, 3) or (B, K, 3) unit vectors."""

    p: Tensor
    v: Tensor

    def dots(self, here: Tensor) -> Tensor:
        """(B, 3) -> (B, K) cosines."""
        if self.v.dim() == 2:
            return (here @ self.v.T).clamp(-1.0, 1.0)
        return torch.bmm(self.v, here[..., None])[..., 0].clamp(-1.0, 1.0)

    def sums(self, weights: Tensor) -> Tensor:
        """(B, K) -> (B, 3) the weighted sums of the points."""
        return weights @ self.v if self.v.dim() == 2 else torch.bmm(weights[:, None], self.v)[:, 0]

    def at(self, columns: Tensor) -> Tensor:
        """(B, M) -> (B, M, 3) some points of each row."""
        if self.v.dim() == 2:
            return self.v[columns]
        return self.v.gather(1, columns[..., None].expand(-1, -1, 3))

    def of(self, rows: Tensor) -> _Points:
        """Some rows."""
        return _Points(self.p[rows], self.v if self.v.dim() == 2 else self.v[rows])

    def heaviest(self, count: int) -> _Points:
        """The heaviest points of each row, weights summing to 1 again."""
        p, columns = self.p.topk(count, dim=-1)
        return _Points(p / p.sum(dim=-1, keepdim=True), self.at(columns))

    def value(self, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K) cosines and angles, and (B,) the mean angle."""
        cosine = self.dots(here)
        angle = torch.acos(cosine)
        return cosine, angle, (angle * self.p).sum(-1)


@torch.no_grad()
def spherical_median(weights: Tensor, vectors: Tensor, *, tolerance_km: float = 1e-3) -> Tensor:
    """The point whose weighted mean great-circle distance to the given ones is least, for each row of weights.

    The mean of distances on the sphere has one minimum where the points lie in half of it; elsewhere there
    may be several, and the search starts at the best of the weighted mean and the heaviest points.

    Args:
        weights: (B, K) not negative, each row with a positive sum.
        vectors: (K, 3) unit vectors, or (B, K, 3) where each row has its own.
        tolerance_km: A row is done when its step is shorter.

    Returns:
        (B, 3) unit vectors, of the type and on the device of `vectors`.

    Source: Weiszfeld's algorithm in the tangent plane (Fletcher et al., NeuroImage 45 (2009), S143), with the step
    of Vardi and Zhang (PNAS 97 (2000), 1423) at a given point, and their condition for its being the median.
    Where the Hessian, a sum of cot(angle) (I - u u') per distance on the sphere, is positive, Newton's step is
    taken instead; one that leads uphill is undone, and Weiszfeld's is tried, then shortened.
    """
    device = torch.device("cpu") if vectors.device.type == "mps" else vectors.device  # which has no float64
    with torch.autocast(device.type, enabled=False):
        v = functional.normalize(vectors.to(device, torch.float64), dim=-1)
        p = weights.to(device, torch.float64)
        points = _Points(p / p.sum(dim=-1, keepdim=True), v)
        tolerance = tolerance_km / EARTH_RADIUS_KM
        few = points.heaviest(HEAVIEST) if p.shape[1] > MANY else points
        here = _search(few, _start(few, points.sums(points.p)), tolerance, MOST_STEPS)
        if few is not points:
            here = _search(points, here, tolerance, MOST_STEPS)
        found = _snapped(here, points)
    return found.to(vectors.device, vectors.dtype)


def _start(points: _Points, mean: Tensor) -> Tensor:
    """(B, 3) the best of the mean and the heaviest points."""
    columns = points.p.topk(min(CANDIDATES, points.p.shape[1]), dim=-1).indices
    heaviest = points.at(columns)
    small = mean.norm(dim=-1, keepdim=True) < 1e-9  # no direction at all
    mean = torch.where(small, heaviest[:, 0], functional.normalize(mean, dim=-1))
    starts = torch.cat((mean[:, None], heaviest), dim=1)
    cosine = starts @ (points.v.T if points.v.dim() == 2 else points.v.mT)  # (B, M, K)
    mean_angle = torch.einsum("bmk,bk->bm", torch.acos(cosine.clamp(-1.0, 1.0)), points.p)
    return starts[torch.arange(len(starts), device=starts.device), mean_angle.argmin(dim=-1)]


def _search(points: _Points, here: Tensor, tolerance: float, most: int) -> Tensor:
    """(B, 3) from a start to where no step is longer than the tolerance."""
    cosine, angle, value = points.value(here)
    plain = torch.zeros(len(here), dtype=torch.bool, device=here.device)  # rows where Newton's step led uphill
    scale = torch.ones(len(here), 1, dtype=here.dtype, device=here.device)
    for _ in range(min(STEPS_TOGETHER, most)):
        step = _step(here, points, angle, cosine, plain)
        moving = step.norm(dim=-1) >= tolerance
        if not bool(moving.any()):
            return here
        step = step * scale
        length = step.norm(dim=-1, keepdim=True)
        there = functional.normalize(here * torch.cos(length) + step * torch.sinc(length / torch.pi), dim=-1)
        cosines, angles, reached = points.value(there)
        better = (reached < value + SLACK_RAD)[:, None]
        scale = torch.where(better, (2.0 * scale).clamp(max=1.0), torch.where(plain[:, None], scale / 4.0, scale))
        plain = ~better[:, 0]
        here = torch.where(better, there, here)
        cosine, angle = torch.where(better, cosines, cosine), torch.where(better, angles, angle)
        value = torch.where(better[:, 0], reached, value)
    if most > STEPS_TOGETHER:
        rows = moving.nonzero()[:, 0]
        here[rows] = _search(points.of(rows), here[rows], tolerance, most - STEPS_TOGETHER)
    return here


def _pull(here: Tensor, points: _Points, cosine: Tensor, touches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3) the points' weighted directions, summed; (B, K) weights over sines; (B, K) one over sines squared."""
    square = 1.0 / (1.0 - cosine * cosine).clamp(min=TOUCHES_RAD**2)  # the antipode has no direction
    unit = (points.p * square.sqrt()).masked_fill(touches, 0.0)
    return points.sums(unit) - (unit * cosine).sum(-1, keepdim=True) * here, unit, square


def _step(here: Tensor, points: _Points, angle: Tensor, cosine: Tensor, plain: Tensor) -> Tensor:
    """(B, 3) the next step, a tangent vector in radians; zero at the median where that is a given point."""
    touches = angle < TOUCHES_RAD
    pull, unit, square = _pull(here, points, cosine, touches)
    newton, good = _newton(here, pull, unit * cosine, square, points)
    held = (points.p * touches).sum(-1, keepdim=True)
    force = pull.norm(dim=-1, keepdim=True)
    gain = (1.0 - held / force.clamp(min=1e-300)).clamp(min=0.0)
    weight = (points.p / angle.clamp(min=TOUCHES_RAD)).masked_fill(touches, 0.0).sum(-1, keepdim=True)
    weiszfeld = gain * pull / weight.clamp(min=1e-300)
    return torch.where((good & ~plain & (held[:, 0] == 0))[:, None], newton, weiszfeld)


def _newton(here: Tensor, pull: Tensor, bend: Tensor, square: Tensor, points: _Points) -> tuple[Tensor, Tensor]:
    """(B, 3) Newton's steps in the tangent plane, and where they lead downhill; `bend` is p cot(angle)."""
    axis = functional.one_hot(here.abs().argmin(dim=-1), 3).to(here.dtype)
    east = functional.normalize(torch.linalg.cross(axis, here), dim=-1)
    north = torch.linalg.cross(here, east)
    turned = bend * square
    # sum of turned (v . east)^2 and its like, as one 3 x 3 moment of the points: fewer passes over them
    moment = _moment(turned, points.v)
    total = bend.sum(-1)
    a = total - torch.einsum("bi,bij,bj->b", east, moment, east)
    b = -torch.einsum("bi,bij,bj->b", east, moment, north)
    c = total - torch.einsum("bi,bij,bj->b", north, moment, north)
    gx, gy = (pull * east).sum(-1), (pull * north).sum(-1)
    determinant, trace = a * c - b * b, a + c
    good = (determinant > 1e-12 * trace * trace) & (trace > 0)
    safe = torch.where(good, determinant, 1.0)
    sx, sy = (c * gx - b * gy) / safe, (a * gy - b * gx) / safe
    shrink = (FAR_RAD / torch.hypot(sx, sy).clamp(min=FAR_RAD))[:, None]
    return shrink * (sx[:, None] * east + sy[:, None] * north), good


def _moment(weights: Tensor, v: Tensor) -> Tensor:
    """(B, 3, 3) the sum of weight times v v'."""
    if v.dim() == 2:
        return (weights @ (v[:, :, None] * v[:, None, :]).flatten(1)).reshape(-1, 3, 3)
    return torch.bmm(v.mT * weights[:, None], v)


def _snapped(here: Tensor, points: _Points) -> Tensor:
    """(B, 3) the given point itself where it is the median: the others' pull there is no more than its weight."""
    cosine = points.dots(here)
    value = (torch.acos(cosine) * points.p).sum(-1)
    nearest = points.at(cosine.argmax(dim=-1, keepdim=True))[:, 0]
    cosine, angle, reached = points.value(nearest)
    touches = angle < TOUCHES_RAD
    pull, _, _ = _pull(nearest, points, cosine, touches)
    own = (points.p * touches).sum(-1)
    fits = (pull.norm(dim=-1) <= own) & (reached <= value + SLACK_RAD)
    return torch.where(fits[:, None], nearest, here)
