"""Exportable: a trained network from views to posterior and point in tensor operations alone.

What `torch.export` and ONNX take: no control flow that depends on values, no NumPy, no projection library. What
cannot be said so is left out and named: a regression head's answers are not moved to the land.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

from geoguesser.arrays import FloatArray
from geoguesser.errors import RegionError
from geoguesser.geo.distance import chord_to_km, from_unit, haversine_km, to_unit
from geoguesser.geo.median import FIXED_STEPS
from geoguesser.geo.region import PlaneRegion
from geoguesser.model.heads.classification import ClassificationHead, Head, RegressionHead
from geoguesser.model.network import GeoNetwork
from geoguesser.model.uncertainty import MIN_LOGIT

POLYNOMIAL_DEGREES = (6, 10, 16, 24)  # of the polynomials that are tried in place of a CRS's inverse
MAX_INVERSE_ERROR_KM = 1e-3
KNOTS_PER_DEGREE = 3
CHECK_POINTS_PER_SIDE = 151  # points a side of the grid on which a polynomial is compared with pyproj


class ExportableNetwork(nn.Module):
    """Views of places to what the model says of them.

    Args:
        network: The trained network; from then on it takes no gradients.
        temperature: Of the posterior that is given out, what the run's calibration found; not of the decoder.
        steps: How many the search of a geometric median takes.

    Attributes:
        outputs: The names of what `forward` returns, in order.
        temperature: As given, 1 for none.

    Raises:
        RegionError: A regression head's CRS has no inverse that a polynomial gives to a metre.
    """

    def __init__(self, network: GeoNetwork, *, temperature: float | None = None, steps: int = FIXED_STEPS) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)  # a scan takes no gradients
        self.temperature = 1.0 if temperature is None else temperature
        self.answer, self.outputs = _answer(network.head, self.temperature, steps)

    def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Answers.

        Args:
            images: (B, 4, 3, S, S) uint8, headings 0, 90, 180, 270, at the network's image size.
            mask: (B, 4) bool, true where there is a view.

        Returns:
            For a head with cells (B, K) the posterior, float32, then for every head (B, 2) latitude and longitude
            in degrees, float64.
        """
        found: tuple[Tensor, ...] = self.answer(self.network(images, mask))
        return found

    def reference(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The same by the network's own head, as `Locator` answers: what an exported program is compared with."""
        with torch.no_grad():
            found: tuple[Tensor, ...] = self.answer.reference(self.network(images, mask))
        return found


class _CellAnswer(nn.Module):
    """Of a head with cells."""

    def __init__(self, head: ClassificationHead, temperature: float, steps: int) -> None:
        super().__init__()
        self.head, self.temperature, self.steps = head, temperature, steps

    def forward(self, out: Tensor) -> tuple[Tensor, ...]:
        points = self.head.decoder.steady(self.head.posterior(out), self.head.points(out), steps=self.steps)
        return self._tempered(out), points

    def reference(self, out: Tensor) -> tuple[Tensor, ...]:
        return self._tempered(out), self.head.decode(out).double()

    def _tempered(self, out: Tensor) -> Tensor:
        """As `uncertainty.tempered`."""
        logits = self.head.logits(out).double()
        shifted = (logits - logits.amax(dim=-1, keepdim=True)).clamp(min=MIN_LOGIT)
        return torch.softmax(shifted / self.temperature, dim=-1).float()


class _PointAnswer(nn.Module):
    """Of a head that gives a point itself, before it is moved to the land."""

    offset: Tensor

    def __init__(self, head: RegressionHead) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("offset", torch.from_numpy(head.offset))
        self.inverse = None if head.space == "sphere" else InverseProjection.fit(cast(PlaneRegion, head.region))

    def forward(self, out: Tensor) -> tuple[Tensor, ...]:
        values = out.double() * self.head.scale + self.offset
        vectors = torch.nan_to_num(values) if self.inverse is None else self.inverse(values)
        return (from_unit(vectors),)

    def reference(self, out: Tensor) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.head.decode_unsnapped(out)),)


def _answer(head: Head, temperature: float, steps: int) -> tuple[Any, tuple[str, ...]]:
    if isinstance(head, RegressionHead):
        return _PointAnswer(head), ("coords_deg",)
    return _CellAnswer(cast(ClassificationHead, head), temperature, steps), ("posterior", "coords_deg")


class InverseProjection(nn.Module):
    """A CRS's inverse over a box as three polynomials: CRS metres to unit vectors.

    Vectors and not degrees, for these are smooth at the date line and the poles as well.

    Args:
        low_m: (2,) the box's south-western corner.
        high_m: (2,) its north-eastern one.
        coefficients: (n, n, 3) of products of Chebyshev polynomials of easting and northing, scaled to -1 to 1.
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
        """Fits it over the box around a region's land, and compares it with pyproj there, edges included.

        Raises:
            RegionError: No polynomial tried is right to a metre everywhere.
        """
        bounds = np.array(region.land_m.bounds)
        low, high = bounds[:2], bounds[2:]
        fine = _grid(np.linspace(-1.0, 1.0, CHECK_POINTS_PER_SIDE))
        true_deg = region.to_degrees(low + (fine + 1.0) / 2.0 * (high - low))
        off_km = np.inf
        for degree in POLYNOMIAL_DEGREES if np.isfinite(true_deg).all() else ():
            knots = chebyshev.chebpts1(KNOTS_PER_DEGREE * degree)
            at = _grid(knots)
            vectors = to_unit(region.to_degrees(low + (at + 1.0) / 2.0 * (high - low)))
            made = cls(low, high, _coefficients(knots, vectors, degree))
            found = from_unit(made(torch.from_numpy(low + (fine + 1.0) / 2.0 * (high - low)))).numpy()
            off_km = float(haversine_km(found, true_deg).max())
            if off_km <= MAX_INVERSE_ERROR_KM:
                return made
        raise RegionError.at(
            f"the CRS of region {region.name}",
            f"cannot be put into a program: over the box around the land its inverse is no polynomial of degree "
            f"{POLYNOMIAL_DEGREES[-1]} to a metre",
            found=f"{off_km * 1000.0:.3g} m off",
            remedy="Train with head.space=sphere, or export formats=[portable] alone.",
        )

    def forward(self, xy_m: Tensor) -> Tensor:
        """(B, 2) CRS metres, float64 -> (B, 3) vectors; a point outside the box is moved to its edge first."""
        inside = torch.minimum(torch.maximum(torch.nan_to_num(xy_m), self.low_m), self.high_m)
        scaled = (inside - self.low_m) / (self.high_m - self.low_m) * 2.0 - 1.0
        size = self.coefficients.shape[0]
        east, north = (_polynomials(scaled[:, axis], size) for axis in (0, 1))
        rows = (east @ self.coefficients.reshape(size, -1)).reshape(-1, size, 3)
        return (rows * north[..., None]).sum(dim=1)


def _polynomials(x: Tensor, count: int) -> Tensor:
    """(B,) from -1 to 1 -> (B, count) Chebyshev polynomials T_0 to T_(count - 1)."""
    found = [torch.ones_like(x), x]
    while len(found) < count:
        found.append(2.0 * x * found[-1] - found[-2])
    return torch.stack(found[:count], dim=-1)


def _coefficients(knots: FloatArray, values: FloatArray, degree: int) -> FloatArray:
    """(n,) knots, (n * n, 3) values on their grid -> (degree + 1, degree + 1, 3) by least squares on each axis."""
    inverse = np.linalg.pinv(chebyshev.chebvander(knots, degree))
    found: FloatArray = np.einsum("an,bm,nmc->abc", inverse, inverse, values.reshape(len(knots), len(knots), 3))
    return found


def _grid(line: FloatArray) -> FloatArray:
    """(n,) -> (n * n, 2), the first axis slowest."""
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def compute_distance_km(found_deg: Tensor, true_deg: Tensor) -> Tensor:
    """(B,) how far points lie apart, good to a millimetre."""
    return chord_to_km((to_unit(found_deg) - to_unit(true_deg)).norm(dim=-1))
