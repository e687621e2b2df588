"""Tasks of our own, which the platform does not have; the explorer uses them."""
