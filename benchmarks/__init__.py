"""Measures of cellworker beside the best alternatives, one run, one machine. `make bench NAME=<name>` runs one."""
