"""The tasks: one module per family, each telling its whole story, and a catalog that lists them."""
