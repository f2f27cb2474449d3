"""ONNX functions of angles in 64 bits: ONNX lacks atan2 and hypot, and ONNX Runtime has acos in 32 bits alone.

Imported only where onnxscript is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20

OPSET = 20
op: Any = opset20  # its stubs want more than its functions do
FLOAT, DOUBLE = 1, 11  # onnx.TensorProto's numbers
MIN_LENGTH = 1e-30  # keeps a division by the length of a zero vector from being none


def arctan2(self: Any, other: Any) -> Any:
    """The angle of (other, self): found in 32 bits, then corrected by the sine of what is missing, in 64.

    The correction leaves the cube of the first error, of 1e-7: nothing.
    """
    y, x = op.Cast(self, to=DOUBLE), op.Cast(other, to=DOUBLE)
    length = op.Max(hypot(y, x), _double(MIN_LENGTH))
    y, x = op.Div(y, length), op.Div(x, length)
    up, along = op.Cast(op.Abs(y), to=FLOAT), op.Cast(op.Abs(x), to=FLOAT)
    angle = op.Atan(op.Div(op.Min(up, along), op.Max(up, along, _single(MIN_LENGTH))))
    angle = op.Where(op.Greater(up, along), op.Sub(_single(math.pi / 2.0), angle), angle)
    angle = op.Where(op.Less(x, _double(0.0)), op.Sub(_single(math.pi), angle), angle)
    angle = op.Cast(op.Where(op.Less(y, _double(0.0)), op.Neg(angle), angle), to=DOUBLE)
    angle = op.Add(angle, op.Sub(op.Mul(y, op.Cos(angle)), op.Mul(x, op.Sin(angle))))
    return op.CastLike(angle, self)


def arccos(self: Any) -> Any:
    """The angle of a cosine from -1 to 1."""
    x = op.Cast(self, to=DOUBLE)
    sine = op.Sqrt(op.Max(op.Sub(_double(1.0), op.Mul(x, x)), _double(0.0)))
    return op.CastLike(arctan2(sine, x), self)


def hypot(self: Any, other: Any) -> Any:
    """The length of (self, other), of numbers whose squares are numbers."""
    return op.Sqrt(op.Add(op.Mul(self, self), op.Mul(other, other)))


def _single(value: float) -> Any:
    return op.Constant(value_float=value)


def _double(value: float) -> Any:
    return op.Cast(op.Constant(value_float=value), to=DOUBLE)


ONNX_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.acos.default: arccos,
    torch.ops.aten.atan2.default: arctan2,
    torch.ops.aten.hypot.default: hypot,
    torch.ops.prims.hypot.default: hypot,
}
