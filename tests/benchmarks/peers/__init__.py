"""Our engine against the libraries people would otherwise use: same models, images and bits."""
