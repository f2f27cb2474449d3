"""The weighted geometric median on the sphere, batched: the point of least expected great-circle distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.geo.distance import EARTH_RADIUS_KM

MOST_STEPS = 200
TOUCHES_RAD = 5e-8  # 0.3 m: nearer points count as the very same; arccos resolves no less in float64
FAR_RAD = 0.3  # no step is longer
CANDIDATES = 4  # heaviest points that may start a search, or be the answer themselves


@torch.no_grad()
def spherical_median(weights: Tensor, vectors: Tensor, *, tolerance_km: float = 1e-3) -> Tensor:
    """The point whose weighted mean great-circle distance to the given ones is least, for each row of weights.

    The mean of distances on the sphere has one minimum where the points lie in half of it; elsewhere there
    may be several, and the search starts at the best of the weighted mean and the heaviest points.

    Args:
        weights: (B, K) not negative, each row with a positive sum.
        vectors: (K, 3) unit vectors.
        tolerance_km: A row is done when its step is shorter.

    Returns:
        (B, 3) unit vectors, of the type and on the device of `vectors`.

    Source: Weiszfeld's algorithm in the tangent plane (Fletcher et al., NeuroImage 45 (2009), S143), with the step
    of Vardi and Zhang (PNAS 97 (2000), 1423) at a given point, and their condition for its being the median;
    beside it Newton's step, by the Hessian cot(angle) (I - u u') of a distance on the sphere, wherever that is
    positive. The better of the two is taken, and one that leads uphill is shortened.
    """
    device = torch.device("cpu") if vectors.device.type == "mps" else vectors.device  # which has no float64
    with torch.autocast(device.type, enabled=False):
        v = functional.normalize(vectors.to(device, torch.float64), dim=-1)
        p = weights.to(device, torch.float64)
        found = _search(p / p.sum(dim=-1, keepdim=True), v, tolerance_km / EARTH_RADIUS_KM)
    return found.to(vectors.device, vectors.dtype)


def _search(p: Tensor, v: Tensor, tolerance: float) -> Tensor:
    heaviest = v[p.topk(min(CANDIDATES, p.shape[1]), dim=-1).indices]
    here = _start(p, v, heaviest)
    cosine = (here @ v.T).clamp(-1.0, 1.0)
    angle = torch.acos(cosine)
    value = (angle * p).sum(-1)
    scales = torch.ones(2, len(p), dtype=p.dtype, device=p.device)  # of Newton's step, of Weiszfeld's
    for _ in range(MOST_STEPS):
        steps = _steps(here, p, v, angle, cosine)
        if bool((steps[1].norm(dim=-1) < tolerance).all()):
            break
        step = steps * scales[..., None]
        length = step.norm(dim=-1, keepdim=True)
        there = functional.normalize(here * torch.cos(length) + step * torch.sinc(length / torch.pi), dim=-1)
        cosines = (there @ v.T).clamp(-1.0, 1.0)
        angles = torch.acos(cosines)
        reached = (angles * p).sum(-1)  # (2, B)
        scales = torch.where(reached < value, (2.0 * scales).clamp(max=1.0), scales / 4.0)
        best = reached.argmin(dim=0)
        rows = torch.arange(len(p), device=p.device)
        better = (reached[best, rows] < value)[:, None]
        here = torch.where(better, there[best, rows], here)
        cosine = torch.where(better, cosines[best, rows], cosine)
        angle = torch.where(better, angles[best, rows], angle)
        value = torch.minimum(value, reached[best, rows])
    return _snapped(here, value, p, v, heaviest)


def _start(p: Tensor, v: Tensor, heaviest: Tensor) -> Tensor:
    """(B, 3) the best of the mean and the heaviest points."""
    mean = p @ v
    small = mean.norm(dim=-1, keepdim=True) < 1e-9  # no direction at all
    mean = torch.where(small, heaviest[:, 0], functional.normalize(mean, dim=-1))
    starts = torch.cat((mean[:, None], heaviest), dim=1)
    angle = torch.acos((starts @ v.T).clamp(-1.0, 1.0))
    best = torch.einsum("bmk,bk->bm", angle, p).argmin(dim=-1)
    return starts[torch.arange(len(p), device=p.device), best]


def _pull(here: Tensor, p: Tensor, v: Tensor, angle: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(..., 3) the points' weighted directions, summed; (..., K) weights over sines; (..., 1) what holds back."""
    touches = angle < TOUCHES_RAD
    sine = torch.sqrt((1.0 - cosine * cosine).clamp(min=TOUCHES_RAD**2))  # the antipode has no direction
    unit = (p / sine).masked_fill(touches, 0.0)
    pull = unit @ v - (unit * cosine).sum(-1, keepdim=True) * here
    return pull, unit, (p * touches).sum(-1, keepdim=True)


def _steps(here: Tensor, p: Tensor, v: Tensor, angle: Tensor, cosine: Tensor) -> Tensor:
    """(2, B, 3) tangent vectors in radians: Newton's step and Weiszfeld's, which is zero at the median."""
    pull, unit, held = _pull(here, p, v, angle, cosine)
    force = pull.norm(dim=-1, keepdim=True)
    gain = (1.0 - held / force.clamp(min=1e-300)).clamp(min=0.0)
    weight = (p / angle.clamp(min=TOUCHES_RAD)).masked_fill(angle < TOUCHES_RAD, 0.0).sum(-1, keepdim=True)
    plain = gain * pull / weight.clamp(min=1e-300)
    newton, good = _newton(here, pull, unit, cosine, v)
    return torch.stack((torch.where((good & (held[:, 0] == 0))[:, None], newton, plain), plain))


def _newton(here: Tensor, pull: Tensor, unit: Tensor, cosine: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3) Newton's steps in the tangent plane, and where they lead downhill."""
    axis = functional.one_hot(here.abs().argmin(dim=-1), 3).to(here.dtype)
    east = functional.normalize(torch.linalg.cross(axis, here), dim=-1)
    north = torch.linalg.cross(here, east)
    square = 1.0 / (1.0 - cosine * cosine).clamp(min=TOUCHES_RAD**2)
    x, y = east @ v.T, north @ v.T  # sine times the direction's parts
    bend = unit * cosine  # p cot(angle)
    turned = bend * square
    a = (bend - turned * x * x).sum(-1)
    b = -(turned * x * y).sum(-1)
    c = (bend - turned * y * y).sum(-1)
    gx, gy = (pull * east).sum(-1), (pull * north).sum(-1)
    determinant, trace = a * c - b * b, a + c
    good = (determinant > 1e-12 * trace * trace) & (trace > 0)
    safe = torch.where(good, determinant, 1.0)
    sx, sy = (c * gx - b * gy) / safe, (a * gy - b * gx) / safe
    shrink = (FAR_RAD / torch.hypot(sx, sy).clamp(min=FAR_RAD))[:, None]
    return shrink * (sx[:, None] * east + sy[:, None] * north), good


def _snapped(here: Tensor, value: Tensor, p: Tensor, v: Tensor, heaviest: Tensor) -> Tensor:
    """(B, 3) the given point itself where it is the median: the others' pull there is no more than its weight."""
    points = torch.cat((v[(here @ v.T).argmax(dim=-1)][:, None], heaviest), dim=1)
    cosine = (points @ v.T).clamp(-1.0, 1.0)
    angle, weights = torch.acos(cosine), p[:, None]
    pull, _, own = _pull(points, weights, v, angle, cosine)
    reached = (angle * weights).sum(-1)
    fits = (pull.norm(dim=-1) <= own[..., 0]) & (reached <= value[:, None] + 1e-12)
    best = torch.where(fits, reached, torch.inf).argmin(dim=-1)
    chosen = points[torch.arange(len(p), device=p.device), best]
    return torch.where(fits.any(dim=-1, keepdim=True), chosen, here)
