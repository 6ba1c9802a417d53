"""Applying a recipe: `compress`, the steps it runs, and the cache of their results."""
