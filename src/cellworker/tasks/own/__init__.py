"""Tasks of our own, which the platform does not have: what the explorer asks beside them."""
