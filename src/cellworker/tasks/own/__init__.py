"""Our own tasks, which the platform does not have; the explorer uses them."""
