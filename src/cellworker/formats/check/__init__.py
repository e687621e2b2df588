"""Checks an experiment's files: contents and problems."""
