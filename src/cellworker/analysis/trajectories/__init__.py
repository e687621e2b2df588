"""The graph along which cells develop, and pseudotime."""
