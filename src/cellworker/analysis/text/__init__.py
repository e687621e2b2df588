"""Numbers as text."""
