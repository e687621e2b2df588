"""The engine: one experiment behind a loopback HTTP server, each request computed in a process of its own.

`runner` runs tasks in isolated worker processes, `loading` keeps an experiment open and follows its file, `server` is
the HTTP surface, `serve` puts them together. Importing this package imports none of them: worker processes stay small.
"""
