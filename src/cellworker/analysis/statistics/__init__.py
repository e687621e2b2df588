"""Tests, sums and summaries of expression."""
