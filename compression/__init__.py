"""Compress neural networks and measure what it costs.

    from compression import Prune, Quantize, Recipe, compress
    recipe = Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4)))
    model = compress("fashion-mnist/resnet18", recipe).model

`load(path)` gives back the model of a packed file.

The public names and where they live are listed once, in `__init__.pyi`. They are imported when
first used: reading stored runs must not wait for torch.
"""

import os

import lazy_loader

# PyTorch's threads spin while they wait for each other. With anything else running on the machine
# that made evaluation on two cores five times slower than on one; after a short spin they sleep.
# The thread library reads this once, when torch is first imported, here or in a worker we start.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# On a busy machine the matrix library would use fewer threads, and sum in another order: the same
# recipe and seed could then give other bytes.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
