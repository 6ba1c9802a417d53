"""How long a run takes: its stages, what earlier runs tell of them, and how far one is."""
