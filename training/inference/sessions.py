"""Sessions of ONNX Runtime, which run an exported backbone on the CPU."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Read when ONNX Runtime is imported, which would otherwise give the machine an identity and look up its makers' host.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

__all__ = ["open_session"]

onnxruntime.disable_telemetry_events()  # for versions that do not know the variable


def open_session(
    content: bytes, threads: int, *, in_floats: bool = False
) -> Callable[[NDArray[np.float32]], list[NDArray[Any]]]:
    """Loads a model.

    Args:
        content: the ONNX model, with one input.
        threads: threads of one call.
        in_floats: compute in floats what the model says in whole numbers.

    Returns:
        A function from the input to the outputs, which may be called from many threads.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to decoding
    # Without instructions for sums of products of bytes, the usual kernels overflow; these are slower, and right.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.disable_quant_qdq", "1" if in_floats else "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: list(session.run(None, {name: values}))
