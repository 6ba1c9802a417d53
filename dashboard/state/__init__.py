"""What the page remembers: form, address, session."""
