"""Map of the synthetic country: a real coastline, with invented relief, climate and customs.

The relief consists of a few ridges near the real ones, and noise: it is no elevation model.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from geoguesser.arrays import FloatArray
from geoguesser.data.demo.scene import Horizon, Image, Surroundings
from geoguesser.geo.boundaries import read_country
from geoguesser.geo.region import PlaneRegion, country

# Side of a pixel of all rasters.
RASTER_M = 500.0

# Distance up to which relief is visible, and positions along a ray of sight.
SIGHT_KM = 60.0
RAY_KM = np.geomspace(0.3, SIGHT_KM, 72)

# Margin of the rasters around Croatia's bounds: more than SIGHT_KM, so that no ray leaves them.
MARGIN_M = 70_000.0

# Sea that begins farther away is not drawn.
SEA_SIGHT_KM = 12.0

# Outer limits of near, middle and far relief, each with a silhouette of its own.
BAND_ENDS_KM = (5.0, 18.0, SIGHT_KM)

# Height above the ground from which the horizon is computed: a wall or bush nearby must not hide the sea.
HORIZON_EYE_M = 12.0

NUM_CUSTOMS = 10

# Countries with land in the rasters, beside Croatia.
NEIGHBOUR_CODES = ("SVN", "HUN", "BIH", "SRB", "MNE", "ITA", "AUT", "ALB", "KOS", "ROU")

# Ridges: height in m, half-width in km, and points (latitude, longitude) along the crest. Placed by eye.
RIDGES: tuple[tuple[float, float, tuple[tuple[float, float], ...]], ...] = (
    (1150, 5, ((45.15, 14.22), (45.45, 14.15))),  # Ucka
    (1200, 14, ((45.55, 14.45), (45.43, 14.65), (45.2, 15.05))),  # Gorski kotar
    (1650, 7, ((44.98, 14.95), (44.75, 15.02), (44.5, 15.25), (44.35, 15.45), (44.25, 15.75))),  # Velebit
    (850, 14, ((45.15, 15.1), (44.85, 15.45), (44.6, 15.75))),  # Lika
    (1350, 7, ((44.8, 15.75), (44.5, 16.05))),  # Pljesevica
    (1600, 8, ((44.2, 16.2), (44.0, 16.45), (43.8, 16.65), (43.6, 16.95))),  # Dinara
    (1000, 4, ((43.6, 16.3), (43.5, 16.7))),  # Kozjak, Mosor
    (1650, 4, ((43.42, 16.92), (43.22, 17.2))),  # Biokovo
    (600, 3, ((43.05, 17.1), (42.85, 17.7))),  # Peljesac
    (1300, 6, ((42.85, 17.95), (42.65, 18.4), (42.5, 18.6))),  # above Dubrovnik
    (600, 4, ((43.33, 16.5), (43.3, 16.75), (43.17, 16.6), (43.13, 17.0))),  # Brac, Hvar
    (500, 3, ((45.05, 14.35), (44.7, 14.4))),  # Cres
    (400, 4, ((45.05, 14.65), (44.5, 15.0))),  # Krk, Rab, Pag
    (950, 5, ((45.83, 15.82), (45.98, 16.15))),  # Medvednica
    (950, 4, ((46.22, 15.9), (46.18, 16.3))),  # Ivanscica
    (1000, 6, ((45.7, 15.3), (45.82, 15.6))),  # Zumberak
    (600, 4, ((46.13, 16.42), (46.16, 16.65))),  # Kalnik
    (280, 6, ((46.05, 16.75), (45.75, 17.3))),  # Bilogora
    (900, 7, ((45.42, 17.25), (45.53, 17.75), (45.42, 18.0))),  # Psunj, Papuk
    (480, 9, ((45.3, 15.8), (45.2, 16.45))),  # Banovina
    (500, 5, ((45.15, 19.2), (45.15, 19.9))),  # Fruska gora
    (2200, 18, ((46.35, 14.7), (46.4, 13.9))),  # Slovene Alps
    (1300, 12, ((46.5, 15.2), (46.45, 15.6))),  # Pohorje
    (1700, 26, ((44.7, 16.6), (44.2, 17.3), (43.8, 17.9), (43.3, 18.5), (42.8, 19.0))),  # Bosnia
    (700, 15, ((44.9, 16.8), (44.85, 18.0))),  # northern Bosnia
)

# Towns: share of the clustered places and position, roughly by population.
TOWNS = (
    (8, 45.81, 15.98), (3, 43.51, 16.46), (2, 45.33, 14.44), (2, 45.55, 18.69), (1.5, 44.12, 15.24),
    (1.2, 44.87, 13.85), (1.2, 45.16, 18.01), (1, 45.49, 15.55), (1, 46.31, 16.34), (1, 43.73, 15.9),
    (1, 42.65, 18.09), (1, 45.9, 16.84), (1, 45.35, 19.0), (0.8, 46.39, 16.43), (0.8, 45.47, 16.38),
    (0.8, 45.29, 18.81), (0.6, 46.16, 16.83), (0.6, 44.55, 15.37),
)  # fmt: skip


class SyntheticLand:
    """Map of the synthetic country, as rasters in the metres of its region; `get_synthetic_land` shares one."""

    def __init__(self) -> None:
        self.region: PlaneRegion = country("HRV", "EPSG:3765")
        west, south, east, north = self.region.land_m.bounds
        self._origin = np.array((west - MARGIN_M, south - MARGIN_M))
        size = (np.array((east, north)) + MARGIN_M - self._origin) / RASTER_M
        self._shape = (int(size[1]) + 1, int(size[0]) + 1)

        land = self._draw_land()
        sea_km = cv2.distanceTransform(land, cv2.DIST_L2, 5) * (RASTER_M / 1000.0)
        elevation = self._compute_elevation(sea_km) * land
        self._rays = np.dstack((elevation, 1.0 - land.astype(np.float32)))
        customs = [make_smooth_noise(self._shape, (420, 240), seed=10 + index) for index in range(NUM_CUSTOMS)]
        self._fields = np.dstack((elevation, sea_km, *customs))

    def compute_surroundings(self, xy_m: FloatArray) -> Surroundings:
        """Computes the surroundings of a place at (2,) easting and northing in metres."""
        elevation, sea_km, *customs = (float(value) for value in self._sample(self._fields, xy_m[None])[0])

        # Istria and the east are smooth functions of the position, Mediterranean climate of sea and elevation.
        lat, lon = self.region.to_degrees(xy_m[None])[0]
        istria = float(np.exp(-(((lat - 45.2) / 0.3) ** 2 + ((lon - 13.85) / 0.33) ** 2)))
        east = float(1.0 / (1.0 + np.exp(-(lon - 17.3) / 0.35))) * float(lat > 44.5)
        mediterranean = np.exp(-((sea_km / 22.0) ** 2) - (max(elevation - 150.0, 0.0) / 550.0) ** 2)
        mountain = float(np.clip((elevation - 180.0) / 600.0, 0.0, 1.0))
        mediterranean = float(np.clip(mediterranean + 0.6 * istria, 0.0, 1.0))
        return Surroundings(elevation, sea_km, mediterranean, istria, east, mountain, tuple(customs))

    def compute_horizon(self, xy_m: FloatArray, bearings_deg: FloatArray) -> Horizon:
        """Computes the horizon of a place at (2,) metres along (N,) bearings in degrees, clockwise from north."""
        angle = np.radians(bearings_deg)
        steps_m = RAY_KM * 1000.0
        ray = np.stack((np.sin(angle), np.cos(angle)), axis=-1)[:, None] * steps_m[:, None]
        samples = self._sample(self._rays, (xy_m + ray).reshape(-1, 2)).reshape(len(angle), len(steps_m), 2)
        elevation_m, sea = samples[..., 0], samples[..., 1]

        eye_m = float(self._sample(self._rays, xy_m[None])[0, 0]) + HORIZON_EYE_M
        slope = np.where(sea < 0.5, (elevation_m - eye_m) / steps_m, -1.0)
        return Horizon(*_find_silhouettes(slope), _find_sea_km(slope, sea))

    def draw_positions(self, seed: int, places: int) -> FloatArray:
        """Draws places on land: two in three uniformly, the others near towns; more continue the same sequence.

        Returns (places, 2) latitude and longitude in degrees, with six decimals.
        """
        coords = np.zeros((places, 2))
        remaining = np.arange(places)
        generators = [np.random.default_rng((seed, index, 0)) for index in range(places)]

        # One test for the candidates of all places at once; places without a candidate on land draw again.
        while len(remaining):
            drawn = self.region.to_degrees(
                np.concatenate([self._draw_candidates(generators[i]) for i in remaining])
            )
            drawn = drawn.round(6).reshape(len(remaining), -1, 2)
            inside = self.region.contains(drawn.reshape(-1, 2)).reshape(drawn.shape[:2])
            coords[remaining] = drawn[np.arange(len(remaining)), inside.argmax(axis=1)]
            remaining = remaining[~inside.any(axis=1)]
        return coords

    def _draw_candidates(self, rng: np.random.Generator) -> FloatArray:
        """Draws (24, 2) candidates in metres, of which the first on land is taken."""
        if rng.random() < 2 / 3:
            west, south, east, north = self.region.land_m.bounds
            return rng.uniform((west, south), (east, north), (24, 2))
        weights = np.array([town[0] for town in TOWNS])
        town = TOWNS[rng.choice(len(TOWNS), p=weights / weights.sum())]
        return self.region.to_metres(np.array([town[1:]])) + rng.normal(0.0, 9000.0, (24, 2))

    def _sample(self, raster: Image, xy_m: FloatArray) -> Image:
        """Returns (N, channels) the values of a raster at (N, 2) points, bilinear."""
        pixels = ((xy_m - self._origin) / RASTER_M).astype(np.float32)[None]

        # The first map holds both coordinates, so that the second one is empty.
        empty = np.empty(0, np.float32)
        return cv2.remap(raster, pixels, empty, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]

    def _to_pixels(self, lon_lat: FloatArray) -> npt.NDArray[np.int32]:
        """Returns (N, 2) positions in 1/16 pixel, for OpenCV's `shift=4`."""
        xy_m = self.region.to_metres(np.clip(lon_lat[:, ::-1], (40.0, 8.0), (50.0, 26.0)))
        return np.rint((xy_m - self._origin) / RASTER_M * 16.0).astype(np.int32)

    def _draw_land(self) -> npt.NDArray[np.uint8]:
        land = np.zeros(self._shape, np.uint8)
        for shape in (self.region.land_deg, *(read_country(code) for code in NEIGHBOUR_CODES)):
            rings = shapely.get_rings(shapely.get_parts(shape))
            cv2.fillPoly(land, [self._to_pixels(shapely.get_coordinates(ring)) for ring in rings], 1, shift=4)
        return land

    def _compute_elevation(self, sea_km: Image) -> Image:
        relief = np.zeros(self._shape, np.float32)
        for height_m, width_km, crest in RIDGES:
            off_crest = np.ones(self._shape, np.uint8)
            cv2.polylines(off_crest, [self._to_pixels(np.array(crest)[:, ::-1])], False, 0, 1, shift=4)
            distance_km = cv2.distanceTransform(off_crest, cv2.DIST_L2, 5) * (RASTER_M / 1000.0)
            relief = np.maximum(relief, height_m * np.exp(-((distance_km / width_km) ** 1.4)))

        rough = make_smooth_noise(self._shape, (160, 70, 30, 12, 6), seed=1)
        hills_m = 70.0 * np.clip(1.0 + make_smooth_noise(self._shape, (24, 10), seed=2), 0.0, None)
        rise = np.tanh(sea_km / 2.5)
        elevation: Image = (
            relief * (1.0 + 0.3 * rough) + 0.15 * hills_m + hills_m * np.tanh(relief / 150.0)
        ) * rise
        return np.clip(elevation, 0.0, None).astype(np.float32)


def make_smooth_noise(shape: tuple[int, int], wavelengths: tuple[int, ...], seed: int) -> Image:
    """Adds smooth noise of several wavelengths in pixels, the longer ones stronger; mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    total = np.zeros(shape, np.float32)
    for wavelength in wavelengths:
        coarse = (shape[1] * 2 // wavelength + 3, shape[0] * 2 // wavelength + 3)
        grid = rng.standard_normal(coarse[::-1]).astype(np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(wavelength**0.8)
    return (total - total.mean()) / total.std()


def _find_silhouettes(slope: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns (3, N) the greatest angle in each band and (3, N) its distance in km, for (N, steps) slopes."""
    starts = np.searchsorted(RAY_KM, (0.0, *BAND_ENDS_KM[:-1]))
    ends = np.searchsorted(RAY_KM, BAND_ENDS_KM, side="right")
    bands = [slope[:, start:end] for start, end in zip(starts, ends, strict=True)]
    tops = np.array([np.arctan(np.maximum(band.max(axis=1), 0.0)) for band in bands])
    peaks = [RAY_KM[start + band.argmax(axis=1)] for start, band in zip(starts, bands, strict=True)]
    return tops, np.array(peaks)


def _find_sea_km(slope: FloatArray, sea: FloatArray) -> FloatArray:
    """Returns (N,) the distance in km at which the sea begins along each ray; infinite if land hides it."""
    is_sea = (sea >= 0.5) & (RAY_KM <= SEA_SIGHT_KM)
    first = is_sea.argmax(axis=1)
    slope_before = np.maximum.accumulate(slope, axis=1)[np.arange(len(sea)), first]

    # About one degree: a low rise does not hide the sea.
    visible = is_sea.any(axis=1) & (slope_before < 0.02)
    return np.where(visible, RAY_KM[first], np.inf)


@cache
def get_synthetic_land() -> SyntheticLand:
    """Returns the shared map, which is made at its first use (about 0.5 s)."""
    return SyntheticLand()
