"""Runs in NNCodec's own environment: a line of JSON in, a file coded and decoded, a line out.

NNCodec needs NumPy before 2, this project 2 or later, so that one process cannot have both.
"""

import json
import os
import sys
import tempfile

import numpy as np
from nncodec.nn import decode, encode


def main() -> None:
    """Code each named file of arrays at the settings that come with it, and decode it again."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        task = json.loads(line)
        with np.load(task["source"]) as file, tempfile.TemporaryDirectory() as folder:
            arrays = {name: file[name] for name in file.files}
            settings = {**task["settings"], "results": folder, "verbose": False}
            data = encode(arrays, settings)  # a bytearray, and only that can be decoded
            np.savez(task["target"], **decode(data, settings))
        print(json.dumps({"bytes": len(data)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
