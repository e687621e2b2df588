"""The pages of the local run and their data: the explorer and the console."""
