"""The pages of the local run and what they are told: the explorer and the console."""
