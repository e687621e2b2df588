"""h5Seurat files (SeuratDisk): the Seurat object that a file of HDF5 holds."""
