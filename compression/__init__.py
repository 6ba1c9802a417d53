"""Compress neural networks and measure what it costs.

    from compression import Prune, Quantize, Recipe, compress
    recipe = Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4)))
    model = compress("fashion-mnist/resnet18", recipe).model

`load(path)` gives back the model of a packed file. `Target` takes a module of your own.

The public names and where they live are listed once, in `__init__.pyi`. They are imported when
first used: reading stored runs must not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
