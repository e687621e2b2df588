"""Our kernels on AnnData in memory, under scanpy's names and with its places of results."""
