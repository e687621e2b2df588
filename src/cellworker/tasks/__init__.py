"""The tasks: one module per family, and a catalog that lists them."""
