"""Files that are neither AnnData nor R's, shown as AnnData: 10x, loom, MuData, text and others.

Each format has a reader that lays the file out as a tree of AnnData (`shown.ForeignFile`). What opens, checks and
converts AnnData then does the same for it.
"""
