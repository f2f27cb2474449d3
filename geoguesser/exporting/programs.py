"""Programs: an exported network as a file of torch.export or of ONNX, written, opened and compared with torch.

A program takes uint8 views and a mask and gives posterior and points; reading photos is not part of it.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from geoguesser.errors import CheckpointError, ConfigError, first_line
from geoguesser.exporting.traceable import ExportableNetwork, compute_distance_km
from geoguesser.system.files import open_replacement, replace_file

INPUTS = ("images", "mask")
RECORD_FILE = "geoguesser.json"  # what a program says of itself: a file in torch's, metadata in ONNX's
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Program = Callable[[Tensor, Tensor], Sequence[Tensor]]


class Probe(NamedTuple):
    """Views that a program is tried on: (B, 4, 3, S, S) uint8 and (B, 4) bool."""

    images: Tensor
    mask: Tensor


class OutputDifference(NamedTuple):
    """How far a program is from torch on some probes.

    Attributes:
        posterior: The greatest difference of a probability; None for a network without cells.
        km: The greatest distance of points.
        places: Of how many.
    """

    posterior: float | None
    km: float
    places: int


def export_program(network: ExportableNetwork, size: int) -> ExportedProgram:
    """Traces a network for any number of places.

    Args:
        network: What is exported.
        size: Height and width of its views.
    """
    batch = torch.export.Dim("batch", min=1)
    example = (torch.zeros(3, 4, 3, size, size, dtype=torch.uint8), torch.ones(3, 4, dtype=torch.bool))
    with torch.no_grad(), _hushed():
        return torch.export.export(
            network, example, dynamic_shapes={"images": {0: batch}, "mask": {0: batch}}, strict=False
        )


def write_torch(program: ExportedProgram, file: Path, record: dict[str, Any]) -> None:
    """Writes a program of torch.export, atomically.

    Args:
        program: The program.
        file: `model.pt2`.
        record: Plain values that it says of itself.
    """
    with _hushed(), open_replacement(file) as stream:
        torch.export.save(program, stream, extra_files={RECORD_FILE: json.dumps(record)})


def write_onnx(program: ExportedProgram, file: Path, record: dict[str, Any], outputs: Sequence[str]) -> None:
    """Writes a program as ONNX, atomically, in one file.

    Args:
        program: The program.
        file: `model.onnx`.
        record: Plain values that it says of itself.
        outputs: Names of what it returns.

    Raises:
        ConfigError: A package is not installed.
    """
    check_onnx()
    from geoguesser.exporting.onnx_functions import ONNX_FUNCTIONS, OPSET

    with torch.no_grad(), _hushed():  # with gradients its passes fall over a scan
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=list(outputs),
            custom_translation_table=ONNX_FUNCTIONS,
            external_data=False,
            verbose=False,
        )
    assert made is not None
    made.model.metadata_props["geoguesser"] = json.dumps(record)

    with replace_file(file) as temporary:
        made.save(temporary, external_data=False)


def check_onnx() -> None:
    """Raises ConfigError where a package for ONNX is not installed."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError.at(
            "formats=onnx", f"needs {', '.join(missing)}, not installed",
            remedy="Install geoguesser[export], or leave onnx out of formats.",
        )  # fmt: skip


def open_torch(file: Path) -> Program:
    """A program of torch.export, to be called with views and mask."""
    with _hushed():
        module = torch.export.load(file).module()
    return cast(Program, torch.no_grad()(module))


def open_onnx(file: Path, *, threads: int = 0) -> Program:
    """A program in ONNX Runtime on the CPU, to be called with views and mask.

    Args:
        file: `model.onnx`.
        threads: That it may use; 0 for as many as there are cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of what it cannot compute in advance
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def answer(images: Tensor, mask: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.numpy(), "mask": mask.numpy()})
        return [torch.from_numpy(np.asarray(one)) for one in found]

    return answer


def make_probes(size: int, *, seed: int = 0) -> list[Probe]:
    """Views to try a program on: 1 place, then 5, some without some of their views, one without any.

    Smooth colours with noise on them, for pure noise looks the same to a network wherever it is.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in (1, 5):
        coarse = torch.rand(4 * count, 3, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
        noise = 0.2 * torch.rand(smooth.shape, generator=generator)
        pixels = ((0.8 * smooth + noise).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        mask = torch.rand(count, 4, generator=generator) < 0.7
        mask[0] = True
        if count > 1:
            mask[1] = False
            mask[2] = torch.tensor([False, True, False, False])
        found.append(Probe(pixels.reshape(count, 4, 3, size, size), mask))
    return found


def compute_difference(answer: Program, network: ExportableNetwork, tried: Sequence[Probe]) -> OutputDifference:
    """Compares a program with the network that it was made from.

    Args:
        answer: The program, opened.
        network: The network.
        tried: What both are asked.
    """
    apart, away, places = [0.0], [0.0], 0
    for probe in tried:
        own, found = network.reference(*probe), answer(*probe)
        away.append(_greatest(compute_distance_km(found[-1], own[-1])))
        if len(own) > 1:
            apart.append(_greatest((found[0].double() - own[0].double()).abs()))
        places += len(probe.mask)
    return OutputDifference(max(apart) if "posterior" in network.outputs else None, max(away), places)


def require_close(found: OutputDifference, name: str, *, posterior: float, km: float) -> None:
    """Raises CheckpointError where a program differs by more than it may.

    Args:
        found: What `difference` found.
        name: Of the file.
        posterior: How much a probability may differ.
        km: How far a point may lie off.
    """
    if found.km <= km and (found.posterior is None or found.posterior <= posterior):
        return
    probability = "" if found.posterior is None else f"{found.posterior:.3g} in a probability and "
    raise CheckpointError.at(
        f"{name} differs from torch by {probability}{found.km * 1000.0:.3g} m in a point; it",
        f"must not by more than {posterior:g} and {km * 1000.0:g} m, and was removed",
        remedy="Try more median_steps; what may differ can be set by tolerance.posterior and tolerance.km.",
    )


def _greatest(values: Tensor) -> float:
    """The greatest value; infinite where one is no number, which no comparison would notice."""
    return float(values.double().nan_to_num(nan=torch.inf, posinf=torch.inf).max())


@contextmanager
def _hushed() -> Iterator[None]:
    """Silences what exporters say of themselves; what matters is checked afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise CheckpointError(f"The network cannot be exported: {first_line(error)}") from error
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
