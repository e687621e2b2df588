"""AnnData on disk, read and written without the anndata package: HDF5 (`.h5ad`) and Zarr (`.zarr`) alike."""
