"""PyTorch models and their data: load, build, parametrized weights."""
