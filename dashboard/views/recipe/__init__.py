"""The left panel: what to do."""
