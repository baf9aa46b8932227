"""ONNX Runtime on the CPU: a network of torch is exported once, later loads need no torch.

Where the file is made it is compared with torch on examples, so that a fault of the exporter is
found before anything is stored under the model's name.
"""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelUnavailableError
from pipeline.models.weights import import_library, write_atomically

#: Two runtimes sum float32 in different orders: 3e-7 was seen for encoders, in rows of length 1.
#: A wrong mask, position or activation moves a row by more than this.
TOLERANCE = 1e-4
#: The longest of a group by its shortest.
_MOST_FILLED = 1.25


def open_session(model: Path | bytes, *, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU that does not spin while it waits.

    ``model``: a file, or what is in one. ``threads``: 0 lets the library choose.

    Raises:
        ModelUnavailableError: the library is missing or the model is damaged.
    """
    ort = import_library("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise ModelUnavailableError(
            "the exported model cannot be opened"
            if isinstance(model, bytes)
            else f"the model file {model} cannot be opened; delete it to have it made again"
        ) from error


def export(
    module: Any,
    examples: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    free_axes: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
) -> None:
    """Write a torch module in evaluation mode as ONNX, once it gives what torch gives.

    ``examples``: inputs by the names of the module's arguments, differing along each of
    ``free_axes``, which need not have those lengths later; the first one is traced, and must be
    longer than 1 along them. ``outputs`` names what the module returns, in order.

    Raises:
        ModelUnavailableError: a library is missing, torch cannot export the module, ONNX Runtime
            gives something else for an example, or the folder cannot be written.
    """
    torch = import_library("torch")
    import_library("onnxscript")
    free = torch.export.Dim.DYNAMIC
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it reports that torchvision is not installed
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch's and onnxscript's own use of what they deprecate; tracing is not for ever.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (),
                kwargs=dict(examples[0]),
                dynamo=True,
                verbose=False,
                input_names=list(examples[0]),
                output_names=list(outputs),
                dynamic_shapes={
                    name: dict.fromkeys(free_axes.get(name, ()), free) for name in examples[0]
                },
            )
            program.save(buffer)
    except Exception as error:  # exporter and serialiser raise classes of many libraries
        raise ModelUnavailableError(
            f"torch cannot export {type(module).__name__} to ONNX ({type(error).__name__})"
        ) from error
    finally:
        registration.setLevel(level)
    content = buffer.getvalue()
    session = open_session(content, threads=1)
    for example in examples:
        _compare(module, session, example, outputs)
    write_atomically(path, content)


def _compare(module: Any, session: Any, example: Mapping[str, Any], outputs: Sequence[str]) -> None:
    with import_library("torch").no_grad():
        expected = module(**example)
    expected = expected if isinstance(expected, tuple) else (expected,)
    actual = session.run(list(outputs), {name: t.numpy() for name, t in example.items()})
    for name, one, other in zip(outputs, expected, actual, strict=True):
        difference = float(np.abs(unit(one.numpy()) - unit(other)).max())
        if not difference <= TOLERANCE:  # also where it is not a number
            raise ModelUnavailableError(
                f"ONNX Runtime gives {name} that differ by {difference:.1e} from those of torch; "
                f"at most {TOLERANCE} is let pass"
            )


def unit(rows: Any) -> Any:
    """``(n, dimension)`` with every row at length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.maximum(lengths, 1e-12)).astype(np.float32)


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in groups of like lengths, so that filling up to the longest of each costs little.

    On a CPU what is filled up costs as much as what is meant, and long texts would make the short
    ones beside them many times as dear.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if groups and lengths[index] <= lengths[groups[-1][0]] * _MOST_FILLED:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
