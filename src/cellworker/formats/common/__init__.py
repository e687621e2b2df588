"""Shared parts of readers and writers of all formats."""
