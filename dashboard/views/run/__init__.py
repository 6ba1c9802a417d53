"""The selected run: its figures, charts and files."""
