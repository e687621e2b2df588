"""The work loop, and its ports to the outside."""
