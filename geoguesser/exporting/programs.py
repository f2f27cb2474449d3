"""Programs: an exported network as a file of `torch.export` or ONNX, written, opened and compared with torch.

A program takes uint8 views and a mask, and returns posterior and coordinates. It does not read photos.
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
RECORD_FILE = "geoguesser.json"  # description of a program inside a torch file; in ONNX it is metadata
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX_LOG_ERRORS = 3  # log severity of ONNX Runtime; below it, it warns of constants that it cannot fold

Program = Callable[[Tensor, Tensor], Sequence[Tensor]]


class Probe(NamedTuple):
    """Views to try a program on: images (B, 4, 3, S, S) uint8 and mask (B, 4) bool."""

    images: Tensor
    mask: Tensor


class OutputDifference(NamedTuple):
    """Largest differences between a program and torch over some places: of a probability, and of points in km.

    `posterior` is None for a network without cells.
    """

    posterior: float | None
    km: float
    places: int


def export_program(network: ExportableNetwork, size: int) -> ExportedProgram:
    """Traces a network for any number of places, with views of a height and width in pixels."""
    batch = torch.export.Dim("batch", min=1)
    example = (torch.zeros(3, 4, 3, size, size, dtype=torch.uint8), torch.ones(3, 4, dtype=torch.bool))
    with torch.no_grad(), _quiet_exporters():
        return torch.export.export(
            network, example, dynamic_shapes={"images": {0: batch}, "mask": {0: batch}}, strict=False
        )


def write_torch(program: ExportedProgram, file: Path, record: dict[str, Any]) -> None:
    """Writes a program of `torch.export` atomically, with a record of plain values that describe it."""
    with _quiet_exporters(), open_replacement(file) as stream:
        torch.export.save(program, stream, extra_files={RECORD_FILE: json.dumps(record)})


def write_onnx(program: ExportedProgram, file: Path, record: dict[str, Any], outputs: Sequence[str]) -> None:
    """Writes a program as a single ONNX file atomically, with a record of plain values that describe it."""
    check_onnx()
    from geoguesser.exporting.onnx_functions import ONNX_FUNCTIONS, OPSET

    # With gradients, the exporter's passes fail on the scan of the median search.
    with torch.no_grad(), _quiet_exporters():
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=list(outputs),
            custom_translation_table=ONNX_FUNCTIONS,
            external_data=False,
            verbose=False,
        )
    assert onnx_program is not None
    onnx_program.model.metadata_props["geoguesser"] = json.dumps(record)

    with replace_file(file) as temporary:
        onnx_program.save(temporary, external_data=False)


def check_onnx() -> None:
    """Raises ConfigError if a package for ONNX is not installed."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        remedy = "Install geoguesser[export], or leave onnx out of formats."
        raise ConfigError.at("formats=onnx", f"needs {', '.join(missing)}, not installed", remedy=remedy)


def open_torch(file: Path) -> Program:
    """Opens a program of `torch.export`."""
    with _quiet_exporters():
        module = torch.export.load(file).module()
    return cast(Program, torch.no_grad()(module))


def open_onnx(file: Path, *, threads: int = 0) -> Program:
    """Opens a program in ONNX Runtime on the CPU; 0 threads stand for the number of cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ONNX_LOG_ERRORS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor, mask: Tensor) -> list[Tensor]:
        outputs = session.run(None, {"images": images.numpy(), "mask": mask.numpy()})
        return [torch.from_numpy(np.asarray(output)) for output in outputs]

    return run


def make_probes(size: int, *, seed: int = 0) -> list[Probe]:
    """Makes views to try a program on: a batch of 1 place and one of 5, in which views are absent.

    The images are smooth colours with noise. Images of pure noise would all have about the same features.
    """
    generator = torch.Generator().manual_seed(seed)
    probes = []
    for count in (1, 5):
        coarse = torch.rand(4 * count, 3, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
        noise = 0.2 * torch.rand(smooth.shape, generator=generator)
        pixels = ((0.8 * smooth + noise).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)

        # The first place has all views, the second one none, the third one only its view to the east.
        mask = torch.rand(count, 4, generator=generator) < 0.7
        mask[0] = True
        if count > 1:
            mask[1] = False
            mask[2] = torch.tensor([False, True, False, False])
        probes.append(Probe(pixels.reshape(count, 4, 3, size, size), mask))
    return probes


def compute_difference(program: Program, network: ExportableNetwork, probes: Sequence[Probe]) -> OutputDifference:
    """Compares a program with the network that it was made from."""
    posterior, km = [0.0], [0.0]
    for probe in probes:
        expected, outputs = network.reference(*probe), program(*probe)
        km.append(_find_max(compute_distance_km(outputs[-1], expected[-1])))
        if len(expected) > 1:
            posterior.append(_find_max((outputs[0].double() - expected[0].double()).abs()))

    places = sum(len(probe.mask) for probe in probes)
    return OutputDifference(max(posterior) if "posterior" in network.outputs else None, max(km), places)


def require_close(difference: OutputDifference, name: str, *, posterior: float, km: float) -> None:
    """Raises CheckpointError if a program differs from torch by more than a probability or a distance in km."""
    if difference.km <= km and (difference.posterior is None or difference.posterior <= posterior):
        return
    probability = "" if difference.posterior is None else f"{difference.posterior:.3g} in a probability and "
    raise CheckpointError.at(
        f"{name} differs from torch by {probability}{difference.km * 1000.0:.3g} m in a point; it",
        f"must not differ by more than {posterior:g} and {km * 1000.0:g} m, and was removed",
        remedy="Increase median_steps, or allow more with tolerance.posterior and tolerance.km.",
    )


def _find_max(values: Tensor) -> float:
    """Returns the largest value, infinity if there is a NaN: no comparison would notice a NaN."""
    return float(values.double().nan_to_num(nan=torch.inf, posinf=torch.inf).max())


@contextmanager
def _quiet_exporters() -> Iterator[None]:
    """Silences warnings of the exporters, and raises CheckpointError if the network cannot be exported."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = {logger: logger.level for logger in loggers}
    for logger in loggers:
        logger.setLevel(logging.ERROR)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise CheckpointError(f"The network cannot be exported: {first_line(error)}") from error
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
