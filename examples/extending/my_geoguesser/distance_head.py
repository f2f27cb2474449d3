"""Head that regresses a unit vector with the distance as loss, not its square."""

import torch

from geoguesser.geo.distance import from_unit, to_unit
from geoguesser.model.heads.base import Head, TracedHead
from geoguesser.model.heads.registry import HEADS


class DistanceHead(Head):
    """Unit vector as output, relative to the centre of the training places and in units of their spread."""

    kind = "distance"

    def __init__(self, in_features, *, middle, unit):
        super().__init__(in_features, output_size=3)
        self.middle, self.unit = middle, unit

    @classmethod
    def fit(cls, *, in_features, region, train_coords_deg):
        vectors = to_unit(train_coords_deg)
        return cls(in_features, middle=vectors.mean(axis=0), unit=float(vectors.std(axis=0).max()) or 1.0)

    def targets(self, coords_deg):
        return {"vector": torch.from_numpy((to_unit(coords_deg) - self.middle) / self.unit).float()}

    def loss(self, out, target):
        return (out.float() - target["vector"]).norm(dim=1).mean()

    def decode(self, out):
        vectors = out.detach().cpu().double() * self.unit + torch.from_numpy(self.middle)
        return from_unit(vectors).to(out.device)

    def trace(self, *, temperature, steps):
        return TracedDistance(self)

    def state(self):
        return {"kind": self.kind, "in_features": self.in_features, "middle": self.middle, "unit": self.unit}

    @classmethod
    def from_state(cls, region, state):
        return cls(state["in_features"], middle=state["middle"], unit=state["unit"])


class TracedDistance(TracedHead):
    outputs = ("coords_deg",)

    def __init__(self, head):
        super().__init__()
        self.head = head
        self.register_buffer("middle", torch.from_numpy(head.middle))

    def forward(self, out):
        return (from_unit(out.double() * self.head.unit + self.middle),)

    def reference(self, out):
        return (self.head.decode(out),)


HEADS[DistanceHead.kind] = DistanceHead
