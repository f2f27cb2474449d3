"""The weighted geometric median on the sphere, batched: the point of least expected great-circle distance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.geo.distance import EARTH_RADIUS_KM

MAX_STEPS = 300
TOUCHES_RAD = 5e-8  # 0.3 m: nearer points count as the very same; arccos resolves no less in float64
SLACK_RAD = 2e-8  # 10 cm: by so much a step may seem to lead uphill, which is arccos's noise
FAR_RAD = 0.3  # no step is longer
FLAT = 1e-6  # of the greatest curvature possible: with less, or a negative one, there is no parabola to go down
SADDLE = 0.1  # of it: so much, or what is negative turned round, is taken instead
ROOT_STEPS = 3  # of Newton's to the distance from the pinned point; with them no answer was 1 m off
CANDIDATES = 4  # heaviest points that may start a search
MANY = 192  # of more points, the heaviest of each row are searched first, and all of them from there
HEAVIEST = 64
ROUGHLY = 1000.0  # times the tolerance, with which the heaviest alone are searched
STEADY_STEPS = 16  # of `spherical_median_fixed_steps`: for a country 10 are enough
WORTH_SHRINKING = 2**13  # weights; with fewer, leaving rows that are done alone costs more than it spares


_State = tuple[Tensor, Tensor, Tensor, Tensor]  # where to go back to, its mean angle, the next place, the damping


class _Points(NamedTuple):
    """Weighted points: p (B, K) with rows that sum to 1, v (K, 3) or (B, K, 3) unit vectors, vv their products."""

    p: Tensor
    v: Tensor
    vv: Tensor | None  # (K, 9) where rows share the points

    def dots(self, here: Tensor) -> Tensor:
        """(B, 3) -> (B, K) cosines."""
        if self.v.dim() == 2:
            return (here @ self.v.T).clamp_(-1.0, 1.0)
        return torch.bmm(self.v, here[..., None])[..., 0].clamp_(-1.0, 1.0)

    def sums(self, weights: Tensor) -> Tensor:
        """(B, K) -> (B, 3) the weighted sums of the points."""
        return weights @ self.v if self.v.dim() == 2 else torch.bmm(weights[:, None], self.v)[:, 0]

    def moments(self, weights: Tensor) -> Tensor:
        """(B, K) -> (B, 3, 3) the weighted sums of v v'."""
        if self.vv is not None:
            return (weights @ self.vv).reshape(-1, 3, 3)
        return torch.bmm(self.v.mT * weights[:, None], self.v)

    def at(self, columns: Tensor) -> Tensor:
        """(B, M) -> (B, M, 3) some points of each row."""
        if self.v.dim() == 2:
            return self.v[columns]
        return self.v.gather(1, columns[..., None].expand(-1, -1, 3))

    def of(self, rows: Tensor) -> _Points:
        """Some rows."""
        return _Points(self.p[rows], self.v if self.v.dim() == 2 else self.v[rows], self.vv)

    def heaviest(self, count: int) -> _Points:
        """The heaviest points of each row, weights summing to 1 again."""
        p, columns = self.p.topk(count, dim=-1)
        return _Points(p / p.sum(dim=-1, keepdim=True), self.at(columns), None)


def _points(weights: Tensor, vectors: Tensor) -> _Points:
    """In 64 bits, where a cosine still tells metres apart."""
    v = functional.normalize(vectors.to(torch.float64), dim=-1)
    p = weights.to(torch.float64)
    vv = (v[:, :, None] * v[:, None, :]).flatten(1) if v.dim() == 2 else None
    return _Points(p / p.sum(dim=-1, keepdim=True), v, vv)


@torch.no_grad()
def spherical_median(weights: Tensor, vectors: Tensor, *, tolerance_km: float = 1e-3) -> Tensor:
    """The point whose weighted mean great-circle distance to the given ones is least, for each row of weights.

    The mean of distances on the sphere has one minimum where the points lie in half of it; elsewhere there
    may be several, and the search starts at the best of the weighted mean and the heaviest points.

    Args:
        weights: (B, K) not negative, each row with a positive sum.
        vectors: (K, 3) unit vectors, or (B, K, 3) where each row has its own.
        tolerance_km: A row is done when it is expected to lie nearer than this to its answer.

    Returns:
        (B, 3) unit vectors, of the type and on the device of `vectors`; a given point itself, where that is best.

    Source: Newton's method in the tangent plane, with the Hessian of distances on the sphere, the sum of
    p cot(angle) (I - u u'), but for one point: the one that bends the mean distance most from a parabola near the
    place at hand stays a cone, p |s - s_i|. The sum of both is least at that point itself, or at the root of a
    concave function, as in trust regions (J. More and D. Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983), 553). So
    the steps shrink quadratically also where the median is a given point or lies next to one. A step that leads
    uphill is undone and tried again with curvatures nearer to those of Weiszfeld's algorithm, with which none does
    (Fletcher et al., NeuroImage 45 (2009), S143).
    """
    device = torch.device("cpu") if vectors.device.type == "mps" else vectors.device  # which has no float64
    with torch.autocast(device.type, enabled=False):
        points = _points(weights.to(device), vectors.to(device))
        tolerance = tolerance_km / EARTH_RADIUS_KM
        many = points.p.shape[1] > MANY
        few = points.heaviest(HEAVIEST) if many else points
        here = _start(few, points.sums(points.p))
        if many:
            here = _search(few, here, ROUGHLY * tolerance)
        found = _search(points, here, tolerance)
    return found.to(vectors.device, vectors.dtype)


def spherical_median_fixed_steps(weights: Tensor, vectors: Tensor, *, steps: int = STEADY_STEPS) -> Tensor:
    """As `spherical_median`, by a fixed number of steps, whatever the values: for programs that are exported.

    Nothing here asks a tensor for a value. In a country it comes as near as `spherical_median` does. Of points all
    around the world with a flat posterior it may not arrive, or find another of several minima: more steps help
    against the first.

    Args:
        weights: (B, K) as there.
        vectors: (K, 3) or (B, K, 3) as there.
        steps: How many.

    Returns:
        (B, 3) unit vectors in 64 bits.
    """
    points = _points(weights, vectors)
    here = _start(points, points.sums(points.p))
    nought = torch.zeros_like(here[:, 0])

    def step(state: _State, _: Tensor) -> tuple[_State, Tensor]:
        back, value_back, here, damping = state
        value = (torch.acos(points.dots(here)) * points.p).sum(-1)
        worse = value > value_back + SLACK_RAD
        damping = torch.where(worse, (4.0 * damping).clamp(0.1, 1.0), damping / 4.0)
        back = torch.where(worse[:, None], back, here)
        there, error = _step(back, points, points.dots(back), damping, steady=True)
        return (back, torch.where(worse, value_back, value), there, damping), error

    state: _State = (here.clone(), nought + torch.inf, here, nought)
    if torch.compiler.is_exporting():  # the program then holds one step, not as many as it takes
        from torch._higher_order_ops.scan import scan

        state, _ = scan(step, state, torch.zeros(steps))
    else:
        for _ in range(steps):
            state, _ = step(state, nought)
    back, value_back, here, _ = state
    value = (torch.acos(points.dots(here)) * points.p).sum(-1)
    return torch.where((value > value_back + SLACK_RAD)[:, None], back, here)


def _start(points: _Points, mean: Tensor) -> Tensor:
    """(B, 3) the best of the mean and the heaviest points."""
    columns = points.p.topk(min(CANDIDATES, points.p.shape[1]), dim=-1).indices
    heaviest = points.at(columns)
    small = mean.norm(dim=-1, keepdim=True) < 1e-9  # no direction at all
    mean = torch.where(small, heaviest[:, 0], functional.normalize(mean, dim=-1))
    starts = torch.cat((mean[:, None], heaviest), dim=1)
    cosine = starts @ (points.v.T if points.v.dim() == 2 else points.v.mT)  # (B, M, K)
    mean_angle = torch.einsum("bmk,bk->bm", torch.acos(cosine.clamp_(-1.0, 1.0)), points.p)
    return starts[torch.arange(starts.shape[0], device=starts.device), mean_angle.argmin(dim=-1)]


def _search(points: _Points, here: Tensor, tolerance: float) -> Tensor:
    """(B, 3) from a start to the median within the tolerance, in radians."""
    found, rows = here.clone(), torch.arange(len(here), device=here.device)
    moving = torch.ones_like(rows, dtype=torch.bool)
    damping = torch.zeros_like(here[:, 0])  # 0 for Newton's curvatures to 1 for Weiszfeld's
    back, cosines_back, value_back = here, points.dots(here), torch.full_like(damping, torch.inf)
    for _ in range(MAX_STEPS):
        cosine = points.dots(here)
        value = (torch.acos(cosine) * points.p).sum(-1)
        worse = value > value_back + SLACK_RAD
        if bool(worse.any()):
            here = torch.where(worse[:, None], back, here)
            cosine = torch.where(worse[:, None], cosines_back, cosine)
            value = torch.where(worse, value_back, value)
        damping = torch.where(worse, (4.0 * damping).clamp(0.1, 1.0), damping / 4.0)
        back, cosines_back, value_back = here, cosine, value
        here, error = _step(here, points, cosine, damping)
        moving &= error >= tolerance
        count = int(moving.sum())
        if count == 0:
            break
        if 2 * count <= len(here) and points.p.numel() > WORTH_SHRINKING:
            found[rows], still = here, moving.nonzero()[:, 0]
            rows, points, here, moving, damping = (
                rows[still],
                points.of(still),
                here[still],
                moving[still],
                damping[still],
            )
            back, cosines_back, value_back = back[still], cosines_back[still], value_back[still]
    found[rows] = here
    return found


def _step(
    here: Tensor, points: _Points, cosine: Tensor, damping: Tensor, *, steady: bool = False
) -> tuple[Tensor, Tensor]:
    """(B, 3) the next places, and (B,) how far they may still lie from the median in radians; 0 at a given one."""
    one = torch.ones((), dtype=here.dtype, device=here.device)
    square = torch.addcmul(one, cosine, cosine, value=-1.0).clamp_(min=TOUCHES_RAD**2)  # of the sines
    inverse = square.rsqrt()
    turned = (cosine * inverse).div_(square).mul_(points.p)
    column = turned.argmax(dim=-1, keepdim=True)  # the pinned point
    unit = points.p * inverse
    weight, touches = _take_out(points.p, square, column, out_of=(unit, turned), steady=steady)
    bend = unit * cosine  # p cot(angle)
    total = bend.sum(-1)
    pull = points.sums(unit) - total[:, None] * here
    bound = bend.clamp_(min=0.0).sum(-1) + 2.0 / math.pi  # 1 / angle < cot(angle) + 2 / pi, and beyond a right one
    pinned, own = points.at(column)[:, 0], cosine.gather(1, column)
    tangent = pinned - own * here
    sine = tangent.norm(dim=-1, keepdim=True).clamp_(min=TOUCHES_RAD)
    curve, frame = _curvatures(here, pull + 1e-12 * tangent, total, points.moments(turned))
    away = tangent * (torch.atan2(sine, own) / sine)
    force, offset = (frame @ torch.stack((pull, away), dim=-1)).permute(2, 1, 0).unbind(0)  # (2, B) each
    bowl = curve > FLAT * bound
    newton = bowl[1] & (damping < 0.01)  # the lesser one
    curve = torch.where(bowl, curve, torch.maximum(curve.abs(), SADDLE * bound))
    curve = torch.lerp(curve, bound.expand_as(curve), damping.expand_as(curve))
    step, lands = _least(curve, force, offset, weight)
    length = step.norm(dim=0)
    lands &= length <= FAR_RAD
    step = step * (FAR_RAD / length.clamp(min=FAR_RAD))
    there = functional.normalize(here + (step.T[:, None] @ frame)[:, 0], dim=-1)
    there = torch.where(lands[:, None], torch.where(touches, here, pinned), there)
    error = length * torch.where(newton, (length * bound).clamp(max=1.0), 1.0)  # that of Newton's steps is squared
    return there, error.masked_fill_(lands & touches[:, 0], 0.0)


def _take_out(
    p: Tensor, square: Tensor, column: Tensor, *, out_of: tuple[Tensor, Tensor], steady: bool
) -> tuple[Tensor, Tensor]:
    """Sets the pinned points' parts of sums to 0, and those of points that are one with it.

    Where it need not be `steady`, what most steps do not need is left out.

    Returns:
        (B,) the weight of the pinned point, and (B, 1) whether the search stands at it.
    """
    touches = square.gather(1, column) <= TOUCHES_RAD**2
    weight = p.gather(1, column)
    if steady or bool(touches.any()):
        same = (square <= TOUCHES_RAD**2) & touches
        if steady or int(same.sum()) > int(touches.sum()):
            for part in out_of:
                part.masked_fill_(same, 0.0)
            weight = torch.where(touches, (p * same).sum(-1, keepdim=True), weight)
    for part in out_of:
        part.scatter_(1, column, 0.0)
    return weight[:, 0], touches


def _curvatures(here: Tensor, towards: Tensor, total: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """(2, B) the Hessian's eigenvalues, total - moment in the tangent plane, and (B, 2, 3) their directions."""
    east = functional.normalize(towards, dim=-1)
    frame = torch.stack((east, torch.linalg.cross(here, east)), dim=1)
    xx, xy, _, yy = (frame @ moment @ frame.mT).flatten(1).unbind(-1)
    half, mean = (yy - xx) / 2.0, total - (xx + yy) / 2.0
    radius, angle = torch.hypot(half, xy), torch.atan2(-xy, half) / 2.0
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack((cos, sin, -sin, cos), dim=-1).reshape(-1, 2, 2)
    return torch.stack((mean + radius, mean - radius)), turn @ frame


def _least(curve: Tensor, force: Tensor, offset: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(2, B) where weight |s - offset| - force s + curve s^2 / 2 is least, and (B,) whether that is at the offset.

    Elsewhere s = offset - t b / (weight + curve t), b = curve offset - force, where t = |s - offset| makes
    |b / (weight + curve t)| = 1. One over the left side is concave in t: Newton's steps from 0 never go too far.
    """
    slope = curve * offset - force
    squares = slope * slope
    bent, size = squares * curve, squares.sum(0)
    pull = size.sqrt()
    t = ((pull - weight) * size / bent.sum(0).clamp_(min=1e-300)).clamp_(min=0.0)
    for _ in range(ROOT_STEPS):
        stiff = torch.addcmul(weight, curve, t)
        second = stiff * stiff
        left = (squares / second).sum(0)
        t = t + (left.sqrt() - 1.0) * left / (bent / (second * stiff)).sum(0).clamp_(min=1e-300)
    lands = pull <= weight
    return torch.where(lands, offset, offset - t * slope / torch.addcmul(weight, curve, t)), lands
