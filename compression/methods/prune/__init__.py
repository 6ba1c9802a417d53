"""Pruning: what a weight is worth (scores) and which weights go (patterns)."""
