"""The memory-mapped store behind an open experiment."""
