"""What is in an experiment's files, and what is wrong with it."""
