"""ONNX functions of angles in float64: ONNX has no atan2 and no hypot, and ONNX Runtime has acos only in float32.

Importing this module requires onnxscript.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20

OPSET = 20
op: Any = opset20  # the type stubs of onnxscript demand more arguments than its functions do
FLOAT, DOUBLE = 1, 11  # onnx.TensorProto
MIN_LENGTH = 1e-30  # avoids a division by zero for zero vectors


def arctan2(self: Any, other: Any) -> Any:
    """Returns the angle of the vector (other, self).

    With y = self / length and x = other / length, the angle theta is first found in float32 as a = theta + e, with
    an error e of about 1e-7. Since y = sin theta and x = cos theta,

        y cos a - x sin a = sin(theta - a) = -e + e^3 / 6 - ...,

    so that adding this in float64 leaves an error of e^3 / 6.
    """
    y, x = op.Cast(self, to=DOUBLE), op.Cast(other, to=DOUBLE)
    length = op.Max(hypot(y, x), _make_double(MIN_LENGTH))
    y, x = op.Div(y, length), op.Div(x, length)

    # In float32: the angle in the first octant, mirrored to the first quadrant, then to the other quadrants.
    up, along = op.Cast(op.Abs(y), to=FLOAT), op.Cast(op.Abs(x), to=FLOAT)
    angle = op.Atan(op.Div(op.Min(up, along), op.Max(up, along, _make_float(MIN_LENGTH))))
    angle = op.Where(op.Greater(up, along), op.Sub(_make_float(math.pi / 2.0), angle), angle)
    angle = op.Where(op.Less(x, _make_double(0.0)), op.Sub(_make_float(math.pi), angle), angle)
    angle = op.Cast(op.Where(op.Less(y, _make_double(0.0)), op.Neg(angle), angle), to=DOUBLE)

    # In float64: the correction.
    angle = op.Add(angle, op.Sub(op.Mul(y, op.Cos(angle)), op.Mul(x, op.Sin(angle))))
    return op.CastLike(angle, self)


def arccos(self: Any) -> Any:
    """Returns the angle from 0 to pi of a cosine from -1 to 1."""
    x = op.Cast(self, to=DOUBLE)
    sine = op.Sqrt(op.Max(op.Sub(_make_double(1.0), op.Mul(x, x)), _make_double(0.0)))
    return op.CastLike(arctan2(sine, x), self)


def hypot(self: Any, other: Any) -> Any:
    """Returns the length of the vector (self, other), whose squares must not overflow."""
    return op.Sqrt(op.Add(op.Mul(self, self), op.Mul(other, other)))


def _make_float(value: float) -> Any:
    return op.Constant(value_float=value)


def _make_double(value: float) -> Any:
    return op.Cast(op.Constant(value_float=value), to=DOUBLE)


ONNX_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.acos.default: arccos,
    torch.ops.aten.atan2.default: arctan2,
    torch.ops.aten.hypot.default: hypot,
    torch.ops.prims.hypot.default: hypot,
}
