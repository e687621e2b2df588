"""The tasks: one module per family with all its facts, and a catalog that lists them."""
