"""The work loop and its ports: queue, results, notifications, cell sets, engine."""
