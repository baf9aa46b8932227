"""ONNX Runtime sessions: from torch once, then on the CPU without torch."""

import io
import logging
import warnings
from pathlib import Path
from typing import Any

from pipeline.errors import ModelUnavailableError
from pipeline.models.weights import import_library, write_atomically


def open_session(path: Path, *, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU that does not spin while it waits.

    Raises:
        ModelUnavailableError: the library is missing or the file is damaged.
    """
    ort = import_library("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise ModelUnavailableError(
            f"the model file {path} cannot be opened; delete it to have it made again"
        ) from error


def export(module: Any, example: Any, path: Path, *, inputs: list[str], outputs: list[str]) -> None:
    """Write a torch module in evaluation mode as ONNX with a free first (batch) axis.

    Raises:
        ModelUnavailableError: a library is missing, or the folder cannot be written.
    """
    torch = import_library("torch")
    import_library("onnxscript")
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it reports that torchvision is not installed
    try:
        with warnings.catch_warnings():
            # torch's own use of its deprecated pytree names.
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
    finally:
        registration.setLevel(level)
    buffer = io.BytesIO()
    program.save(buffer)
    write_atomically(path, buffer.getvalue())
