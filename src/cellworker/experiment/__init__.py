"""The domain: an open experiment, its cell sets, and the memory-mapped store behind it."""
