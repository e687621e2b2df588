"""Annotators outside our own numerics: a language model, a table of marker genes."""
