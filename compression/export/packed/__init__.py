"""The packed file: codes, masks and scales, entropy-coded."""
