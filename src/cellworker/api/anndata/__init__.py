"""Our kernels on AnnData in memory, under scanpy's names; results go where scanpy puts them."""
