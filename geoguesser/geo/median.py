"""Weighted geometric median on the sphere, batched: the point of least expected great-circle distance.

Notation. x is the current place and v_i are the given points, all unit vectors; p_i are weights that sum to 1;
theta_i = arccos(x . v_i). The rows of E (2, 3) are an orthonormal basis of the tangent plane at x, and s (2,) is a
step in that plane in radians. u_i = E v_i / sin(theta_i) is the unit vector of the plane that points to v_i.
To minimise: F(x) = sum_i p_i theta_i.

Step. `_propose` minimises a model of F around x. The distance to one point is, to second order in s,

    theta_i(s) = theta_i - u_i . s + cot(theta_i) (|s|^2 - (u_i . s)^2) / 2.                                    (1)

The n-th order term of the series grows as 1 / theta_i^(n-1), so (1) fails for a point that is no farther away
than the step is long. Near the median there is often one such point, where plain methods crawl. This *pinned*
point j keeps its distance in the tangent plane, |s - o| with o = theta_j u_j. Up to a constant, the model is

    m(s) = w |s - o| - f . s + s' H s / 2,   w = p_j,   f = sum_i p_i u_i,                                      (2)
    H = sum_i p_i cot(theta_i) (I - u_i u_i'),   sums over i other than j.                                      (3)

Minimum of the model, for positive definite H. With b = H o - f, the gradient at s other than o is

    w (s - o) / |s - o| + H (s - o) + b,

and s = o is the minimum if and only if the other points pull it with a force of at most its weight, |b| <= w: the
condition of Vardi and Zhang. Otherwise t = |s - o| > 0, a gradient of zero reads (w + t H) (s - o) = -t b, so

    s = o - t (w + t H)^-1 b,   and, from the length of s - o,   |(w + t H)^-1 b| = 1.                          (4)

This is the secular equation of trust-region methods. 1 / |(w + t H)^-1 b| is a concave, increasing function of t,
so that Newton's method for (4) in this form rises from t = 0 towards the root and never passes it.

Safeguards. The Hessian of F may be singular (points on a great circle) or indefinite (points around the world),
and (1) may be poor far from the median. Replacing H by (sum_i p_i / theta_i) I gives Weiszfeld's algorithm, none
of whose steps leads uphill. A step that leads uphill is therefore undone and repeated with eigenvalues of H moved
towards Weiszfeld's (`damping`), as in the method of Levenberg and Marquardt.

Sources:
    E. Weiszfeld, Tohoku Mathematical Journal 43 (1937), 355; on the sphere P. T. Fletcher, S. Venkatasubramanian
        and S. Joshi, NeuroImage 45 (2009), S143.
    Y. Vardi and C.-H. Zhang, PNAS 97 (2000), 1423: the case of an iterate at a given point.
    J. J. More and D. C. Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983), 553: the secular equation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from geoguesser.geo.distance import EARTH_RADIUS_KM

MAX_STEPS = 300
FIXED_STEPS = 16  # of `fixed_step_median`; 10 are enough for a country
MAX_STEP_RAD = 0.3

# arccos resolves no less than about 2e-8 in float64. Points nearer than TOUCHING_RAD (0.3 m) count as one, and a
# mean distance that grows by less than SLACK_RAD (0.1 m) does not count as uphill.
TOUCHING_RAD = 5e-8
SLACK_RAD = 2e-8

# Eigenvalues of H below MIN_CURVATURE are replaced by their absolute value, at least SADDLE_CURVATURE. Both are
# shares of Weiszfeld's curvature, the largest that a Hessian can have.
MIN_CURVATURE = 1e-6
SADDLE_CURVATURE = 0.1

ROOT_STEPS = 4  # Newton steps for the secular equation

# The search starts at the mean or at one of the CANDIDATES heaviest points. Of more than MANY_POINTS points, the
# HEAVIEST of each row are searched first, to COARSE_FACTOR times the tolerance: cheap, and nearly the answer.
CANDIDATES = 4
MANY_POINTS = 192
HEAVIEST = 64
COARSE_FACTOR = 1000.0


class _Points(NamedTuple):
    """Points with weights (B, K), rows that sum to 1, and unit vectors (K, 3) for all rows or (B, K, 3)."""

    weights: Tensor
    vectors: Tensor

    @property
    def shared(self) -> bool:
        return self.vectors.dim() == 2

    def compute_cosines(self, places: Tensor) -> Tensor:
        """Returns the cosines (B, K) of the angles between places (B, 3) and the points."""
        products = places @ self.vectors.T if self.shared else (self.vectors @ places[..., None])[..., 0]
        return products.clamp(-1.0, 1.0)

    def compute_mean_angles(self, places: Tensor) -> Tensor:
        return (torch.acos(self.compute_cosines(places)) * self.weights).sum(-1)

    def sum_vectors(self, factors: Tensor) -> Tensor:
        """Returns the sums (B, 3) of factors (B, K) times v."""
        return factors @ self.vectors if self.shared else (factors[:, None] @ self.vectors)[:, 0]

    def sum_products(self, factors: Tensor) -> Tensor:
        """Returns the sums (B, 3, 3) of factors (B, K) times v v'."""
        if self.shared:
            products = self.vectors[:, :, None] * self.vectors[:, None, :]
            return (factors @ products.flatten(1)).reshape(-1, 3, 3)
        return (self.vectors.mT * factors[:, None]) @ self.vectors

    def take_rows(self, rows: Tensor) -> _Points:
        return _Points(self.weights[rows], self.vectors if self.shared else self.vectors[rows])

    def take_heaviest(self, count: int) -> _Points:
        """Selects the heaviest points of each row, with weights normalised again."""
        weights, columns = self.weights.topk(min(count, self.weights.shape[1]), dim=-1)
        return _Points(weights / weights.sum(dim=-1, keepdim=True), select_vectors(self.vectors, columns))


class _State(NamedTuple):
    """State of a search, one row per row of weights.

    Attributes:
        place: (B, 3) best place so far.
        cosine: (B, K) cosines of its angles to the points.
        angle: (B, K) angles.
        value: (B,) mean angle, the objective.
        damping: (B,) 0 for the curvatures of H, 1 for Weiszfeld's.
        proposal: (B, 3) next place to try.
    """

    place: Tensor
    cosine: Tensor
    angle: Tensor
    value: Tensor
    damping: Tensor
    proposal: Tensor


@torch.no_grad()
def spherical_median(
    weights: Tensor, vectors: Tensor, *, tolerance_km: float = 1e-3, candidates: int = CANDIDATES
) -> Tensor:
    """Finds the point with the least weighted mean great-circle distance to given points, for each row of weights.

    The mean distance has one minimum if the points lie in a half of the sphere. Otherwise there may be several,
    and the search starts at the best of the weighted mean and the heaviest points.

    Args:
        weights: (B, K) non-negative weights, each row with a positive sum.
        vectors: (K, 3) unit vectors, or (B, K, 3) if each row has its own.
        tolerance_km: A row is finished when its estimated error is smaller.
        candidates: Number of heaviest points that are tried as start.

    Returns:
        (B, 3) unit vectors, of the type and on the device of `vectors`; a given point itself if that is best.
    """
    # MPS has no float64.
    device = torch.device("cpu") if vectors.device.type == "mps" else vectors.device

    with torch.autocast(device.type, enabled=False):
        points = _normalise(weights.to(device), vectors.to(device))
        tolerance = tolerance_km / EARTH_RADIUS_KM
        mean = points.sum_vectors(points.weights)

        if points.weights.shape[1] > MANY_POINTS:
            heaviest = points.take_heaviest(max(HEAVIEST, candidates))
            start = _choose_start(heaviest, mean, candidates)
            start = _search(heaviest, start, COARSE_FACTOR * tolerance)
        else:
            start = _choose_start(points, mean, candidates)

        median = _search(points, start, tolerance)

    return median.to(vectors.device, vectors.dtype)


def fixed_step_median(weights: Tensor, vectors: Tensor, *, steps: int = FIXED_STEPS) -> Tensor:
    """Computes `spherical_median` in a fixed number of steps and in float64, for exported programs.

    No operation depends on a tensor's values. Within a country the accuracy is that of `spherical_median`. For
    points around the world with a flat posterior the search may not converge, or find another of several minima;
    more steps help against the former.
    """
    points = _normalise(weights, vectors)
    start = _choose_start(points, points.sum_vectors(points.weights), CANDIDATES)
    state = _start_search(points, start)

    if torch.compiler.is_exporting():
        # A scan stores one step in the program instead of `steps` copies of it.
        from torch._higher_order_ops.scan import scan

        def scan_step(parts: tuple[Tensor, ...], _: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            state, error = _advance(points, _State(*parts))
            return tuple(state), error

        parts, _ = scan(scan_step, tuple(state), torch.zeros(steps))
        state = _State(*parts)
    else:
        for _ in range(steps):
            state, _ = _advance(points, state)

    # The last proposal has not been compared with the place before it yet.
    uphill = points.compute_mean_angles(state.proposal) > state.value + SLACK_RAD
    return torch.where(uphill[:, None], state.place, state.proposal)


def _normalise(weights: Tensor, vectors: Tensor) -> _Points:
    """Converts to float64, where a cosine still resolves metres, and to sums and lengths of 1."""
    weights = weights.to(torch.float64)
    vectors = vectors.to(torch.float64)
    return _Points(weights / weights.sum(dim=-1, keepdim=True), functional.normalize(vectors, dim=-1))


def select_vectors(vectors: Tensor, columns: Tensor) -> Tensor:
    """Returns the vectors (B, M, 3) of columns (B, M), from (K, 3) or (B, K, 3) vectors."""
    if vectors.dim() == 2:
        return vectors[columns]
    return vectors.gather(1, columns[..., None].expand(-1, -1, 3))


def _choose_start(points: _Points, mean: Tensor, candidates: int) -> Tensor:
    """Returns the best (B, 3) of the mean's direction and the heaviest points."""
    columns = points.weights.topk(min(candidates, points.weights.shape[1]), dim=-1).indices
    heaviest = select_vectors(points.vectors, columns)

    # A mean of zero has no direction.
    defined = mean.norm(dim=-1, keepdim=True) >= 1e-9
    start = torch.where(defined, functional.normalize(mean, dim=-1), heaviest[:, 0])

    value = points.compute_mean_angles(start)
    for candidate in heaviest.unbind(1):
        candidate_value = points.compute_mean_angles(candidate)
        better = candidate_value < value
        start = torch.where(better[:, None], candidate, start)
        value = torch.where(better, candidate_value, value)

    return start


def _start_search(points: _Points, start: Tensor) -> _State:
    """Makes the state before the first step: any proposal is better than an infinite value."""
    cosine = points.compute_cosines(start)
    zeros = torch.zeros_like(start[:, 0])
    return _State(start.clone(), cosine, torch.acos(cosine), zeros + torch.inf, zeros, start)


def _search(points: _Points, start: Tensor, tolerance: float) -> Tensor:
    """Searches from a start (B, 3) until each row's estimated error is below the tolerance in radians."""
    median = start.clone()
    rows = torch.arange(len(start), device=start.device)
    state = _start_search(points, start)

    for _ in range(MAX_STEPS):
        state, error = _advance(points, state)
        median[rows] = state.proposal

        # Only unfinished rows go on; a few of them take much longer than the others.
        moving = (error >= tolerance).nonzero()[:, 0]
        if len(moving) == 0:
            break
        if len(moving) < len(rows):
            rows = rows[moving]
            points = points.take_rows(moving)
            state = _State(*(part[moving] for part in state))

    return median


def _advance(points: _Points, state: _State) -> tuple[_State, Tensor]:
    """Accepts or undoes the proposal and makes the next; returns the new state and the next one's error (B,)."""
    cosine = points.compute_cosines(state.proposal)
    angle = torch.acos(cosine)
    value = (angle * points.weights).sum(-1)

    # Undo a step that led uphill, and damp the next one more.
    uphill = value > state.value + SLACK_RAD
    undo = uphill[:, None]
    place = torch.where(undo, state.place, state.proposal)
    cosine = torch.where(undo, state.cosine, cosine)
    angle = torch.where(undo, state.angle, angle)
    value = torch.where(uphill, state.value, value)
    damping = torch.where(uphill, (4.0 * state.damping).clamp(0.1, 1.0), state.damping / 4.0)

    proposal, error = _propose(points, place, cosine, angle, damping)
    return _State(place, cosine, angle, value, damping, proposal), error


def _propose(
    points: _Points, place: Tensor, cosine: Tensor, angle: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimises the model (2) around each place; returns proposals (B, 3) and their errors (B,) in radians."""
    angle = angle.clamp(min=TOUCHING_RAD)
    sine = (1.0 - cosine * cosine).clamp(min=TOUCHING_RAD**2).sqrt()

    # Pin the point with the largest fourth-order term. If the place touches it, all points it touches are pinned,
    # with the sum of their weights.
    pinned = (points.weights / angle**3).argmax(dim=-1, keepdim=True)
    touching = angle <= TOUCHING_RAD
    touches = touching.gather(1, pinned)
    is_pinned = (touching & touches).scatter(1, pinned, True)
    weight = torch.where(is_pinned, points.weights, 0.0).sum(-1)
    others = torch.where(is_pinned, 0.0, points.weights)

    # f of (2) in three dimensions: u_i = (v_i - cos(theta_i) x) / sin(theta_i).
    per_sine = others / sine
    per_tangent = per_sine * cosine
    force = points.sum_vectors(per_sine) - per_tangent.sum(-1, keepdim=True) * place

    # H of (3). u_i = E v_i / sin(theta_i), so cot(theta_i) u_i u_i' = E (cos / sin^3 v_i v_i') E'.
    basis = _make_tangent_basis(place)
    outer = basis @ points.sum_products(per_tangent / sine**2) @ basis.mT
    hessian = per_tangent.sum(-1)[:, None, None] * torch.eye(2, dtype=place.dtype, device=place.device) - outer

    # From this step on in the basis of H's eigenvectors. Eigenvalues that are not safely positive are replaced.
    curvature, axes = _decompose(hessian)
    basis = axes @ basis
    weiszfeld = (others / angle).sum(-1, keepdim=True)
    positive = curvature > MIN_CURVATURE * weiszfeld
    saddle = torch.maximum(curvature.abs(), SADDLE_CURVATURE * weiszfeld)
    curvature = torch.where(positive, curvature, saddle)
    curvature = torch.lerp(curvature, weiszfeld.expand_as(curvature), damping[:, None].expand_as(curvature))

    # o of (2): theta_j along the tangent from x to v_j, whose length is sin(theta_j), for small angles more exact
    # than from the cosine.
    vector = select_vectors(points.vectors, pinned)[:, 0]
    tangent = vector - cosine.gather(1, pinned) * place
    length = tangent.norm(dim=-1, keepdim=True).clamp(min=TOUCHING_RAD)
    offset = tangent / length * torch.atan2(length, cosine.gather(1, pinned))

    force, offset = ((basis @ part[..., None])[..., 0] for part in (force, offset))
    step, at_pinned = _minimise_model(curvature, force, offset, weight)

    # Far steps are cut. Normalising x + s moves by arctan |s|, which is |s| to second order.
    length = step.norm(dim=-1)
    step = step * (MAX_STEP_RAD / length.clamp(min=MAX_STEP_RAD))[:, None]
    proposal = functional.normalize(place + (step[:, None] @ basis)[:, 0], dim=-1)

    # If the model is least at the pinned point, the proposal is exactly that point. A place that touches it
    # already does not move, because points that count as one could otherwise alternate.
    at_pinned = at_pinned & (length <= MAX_STEP_RAD)
    proposal = torch.where(at_pinned[:, None], torch.where(touches, place, vector), proposal)

    # Newton's method converges quadratically: the error left is about |s|^2 F''' / F''. The third derivative of a
    # distance is to the second as 1 / theta_i, so Weiszfeld's curvature estimates their ratio. For other steps,
    # only their length is known.
    is_newton = positive.all(dim=-1) & (damping < 0.01)
    error = torch.where(is_newton, length * (length * weiszfeld[:, 0]).clamp(max=1.0), length)
    return proposal, torch.where(at_pinned & touches[:, 0], 0.0, error)


def _make_tangent_basis(place: Tensor) -> Tensor:
    """Returns two unit vectors (B, 2, 3) that are orthogonal to each other and to unit vectors (B, 3).

    Source: T. Duff et al., Building an Orthonormal Basis, Revisited, JCGT 6 (2017), 1.
    """
    x, y, z = place.unbind(-1)
    sign = torch.where(z < 0.0, -1.0, 1.0).to(place.dtype)
    a = -1.0 / (sign + z)
    b = x * y * a

    first = torch.stack((1.0 + sign * x * x * a, sign * b, -sign * x), dim=-1)
    second = torch.stack((b, sign + y * y * a, -y), dim=-1)
    return torch.stack((first, second), dim=1)


def _decompose(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Returns eigenvalues (B, 2), the greater first, and eigenvectors as rows of symmetric matrices (B, 2, 2).

    A symmetric matrix ((a, b), (b, d)) is m I + r ((cos 2g, sin 2g), (sin 2g, -cos 2g)) with m = (a + d) / 2 and
    r (cos 2g, sin 2g) = ((a - d) / 2, b). Its eigenvectors are (cos g, sin g) for m + r and (-sin g, cos g) for
    m - r.
    """
    a, b, _, d = matrices.flatten(1).unbind(-1)
    mean = (a + d) / 2.0
    radius = torch.hypot((a - d) / 2.0, b)
    turn = torch.atan2(b, (a - d) / 2.0) / 2.0

    values = torch.stack((mean + radius, mean - radius), dim=-1)
    cos, sin = torch.cos(turn), torch.sin(turn)
    return values, torch.stack((cos, sin, -sin, cos), dim=-1).reshape(-1, 2, 2)


def _minimise_model(curvature: Tensor, force: Tensor, offset: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Minimises the model (2) in the basis of H's eigenvectors, with eigenvalues (B, 2), f, o (B, 2) and w (B,).

    Returns s (B, 2), and a mask (B,) of the rows for which it is o.
    """
    # b of (4)
    gradient = curvature * offset - force
    pull = gradient.norm(dim=-1)
    at_offset = pull <= weight

    # Newton's method for g(t) = 1 / q - 1 = 0 with q = |y|, y = b / (w + t h).
    # With q' = -(y . (h y / (w + t h))) / q, the step is
    #     -g / g' = (1 / q - 1) q^2 / q' = (q - 1) q^2 / (y . (h y / (w + t h))).
    # The first, from t = 0, is multiplied out because w may be 0: (|b| - w) |b|^2 / (b . (h b)).
    tiny = 1e-300
    bend = (curvature * gradient**2).sum(-1)
    t = ((pull - weight) * pull**2 / bend.clamp(min=tiny)).clamp(min=0.0)
    for _ in range(ROOT_STEPS):
        stiffness = weight[:, None] + t[:, None] * curvature
        y = gradient / stiffness
        q = y.norm(dim=-1)
        t = t + (q - 1.0) * q**2 / (y * curvature * y / stiffness).sum(-1).clamp(min=tiny)

    # (4)
    step = offset - t[:, None] * gradient / (weight[:, None] + t[:, None] * curvature)
    return torch.where(at_offset[:, None], offset, step), at_offset
