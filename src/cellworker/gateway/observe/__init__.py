"""Health, metrics and traces."""
