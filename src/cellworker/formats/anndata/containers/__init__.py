"""Files of groups and arrays: HDF5 and Zarr, read and written alike."""
