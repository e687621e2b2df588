"""From raw counts of samples to an experiment: `cellworker prepare`."""
