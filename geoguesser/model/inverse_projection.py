"""Inverse of a region's CRS as a polynomial, in tensor operations that can be exported.

Over the bounding box of the land, each component of the unit vector that belongs to CRS coordinates (x, y) is a
smooth function. Unit vectors are used because, unlike degrees, they are smooth at the date line and at the poles.
With x and y scaled to [-1, 1], a component is approximated by

    f(x, y) = sum_ab c_ab T_a(x) T_b(y),   a, b = 0 ... n,                                                     (1)

where T_k is the Chebyshev polynomial of degree k:

    T_0(x) = 1,   T_1(x) = x,   T_(k+1)(x) = 2 x T_k(x) - T_(k-1)(x).                                          (2)

Let F_ij be the values of f at the knots (x_i, x_j) of a square grid, and V_ia = T_a(x_i). Least squares over the
grid separate into one problem per axis, with the pseudoinverse V+ of V:

    c = V+ F (V+)'.                                                                                            (3)

Roots of a Chebyshev polynomial as knots keep the error evenly small up to the edges of the box.

Source: L. N. Trefethen, "Approximation Theory and Approximation Practice", SIAM (2013), chapters 3 and 4.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

from geoguesser.arrays import FloatArray
from geoguesser.errors import RegionError
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.region import PlaneRegion

POLYNOMIAL_DEGREES = (6, 10, 16, 24)  # tried in this order
MAX_INVERSE_ERROR_KM = 1e-3
KNOTS_PER_DEGREE = 3
CHECK_POINTS_PER_SIDE = 151  # of the grid on which a polynomial is compared with pyproj


class InverseProjection(nn.Module):
    """Polynomials from CRS coordinates in metres to unit vectors, over a box.

    Args:
        low_m, high_m: (2,) south-western and north-eastern corner of the box in metres.
        coefficients: (n + 1, n + 1, 3) coefficients c of equation (1) for the three components.
    """

    low_m: Tensor
    high_m: Tensor
    coefficients: Tensor

    def __init__(self, low_m: FloatArray, high_m: FloatArray, coefficients: FloatArray) -> None:
        super().__init__()
        for name, value in (("low_m", low_m), ("high_m", high_m), ("coefficients", coefficients)):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))

    @classmethod
    def fit(cls, region: PlaneRegion) -> InverseProjection:
        """Fits polynomials of the lowest degree that agrees with pyproj in the bounding box of the region's land.

        Raises RegionError if none of the degrees agrees to `MAX_INVERSE_ERROR_KM`.
        """
        bounds = np.array(region.land_m.bounds)
        low_m, high_m = bounds[:2], bounds[2:]
        check_m = _make_grid(low_m, high_m, np.linspace(-1.0, 1.0, CHECK_POINTS_PER_SIDE))
        true_deg = region.to_degrees(check_m)
        error_km = np.inf

        # A CRS that has no inverse somewhere in the box gives coordinates that are not finite.
        for degree in POLYNOMIAL_DEGREES if np.isfinite(true_deg).all() else ():
            knots = chebyshev.chebpts1(KNOTS_PER_DEGREE * degree)
            vectors = to_unit(region.to_degrees(_make_grid(low_m, high_m, knots)))
            inverse = cls(low_m, high_m, _fit_coefficients(knots, vectors, degree))

            coords_deg = from_unit(inverse(torch.from_numpy(check_m))).numpy()
            error_km = float(haversine_km(coords_deg, true_deg).max())
            if error_km <= MAX_INVERSE_ERROR_KM:
                return inverse

        raise RegionError.at(
            f"the CRS of region {region.name}",
            f"cannot be exported: no polynomial up to degree {POLYNOMIAL_DEGREES[-1]} agrees with its inverse to "
            "a metre over the bounding box of the land",
            found=f"{error_km * 1000.0:.3g} m off",
            remedy="Train with head.space=sphere, or export formats=[portable] only.",
        )

    def forward(self, xy_m: Tensor) -> Tensor:
        """Returns unit vectors (B, 3) for CRS coordinates in metres (B, 2), which are moved into the box."""
        inside = torch.minimum(torch.maximum(torch.nan_to_num(xy_m), self.low_m), self.high_m)
        scaled = (inside - self.low_m) / (self.high_m - self.low_m) * 2.0 - 1.0

        # Equation (1): first the sum over a, then the sum over b.
        size = self.coefficients.shape[0]
        x_terms, y_terms = (_compute_chebyshev(scaled[:, axis], size) for axis in (0, 1))
        rows = (x_terms @ self.coefficients.reshape(size, -1)).reshape(-1, size, 3)
        return (rows * y_terms[..., None]).sum(dim=1)


def _compute_chebyshev(x: Tensor, count: int) -> Tensor:
    """Returns T_0 to T_(count - 1) (B, count) at x (B,), by equation (2)."""
    terms = [torch.ones_like(x), x]
    while len(terms) < count:
        terms.append(2.0 * x * terms[-1] - terms[-2])
    return torch.stack(terms[:count], dim=-1)


def _fit_coefficients(knots: FloatArray, values: FloatArray, degree: int) -> FloatArray:
    """Returns coefficients (degree + 1, degree + 1, 3) by equation (3), from values (n * n, 3) at n knots."""
    inverse = np.linalg.pinv(chebyshev.chebvander(knots, degree))
    grid = values.reshape(len(knots), len(knots), 3)
    return np.einsum("an,bm,nmc->abc", inverse, inverse, grid)


def _make_grid(low_m: FloatArray, high_m: FloatArray, line: FloatArray) -> FloatArray:
    """Returns points (n * n, 2) of a box in metres at n positions from -1 to 1 along each axis, x slowest."""
    scaled = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    return low_m + (scaled + 1.0) / 2.0 * (high_m - low_m)
