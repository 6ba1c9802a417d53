"""Every file that a model can be written to or opened from, and what runs it."""
