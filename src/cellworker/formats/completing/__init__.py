"""What an experiment lacks is made: variable genes, principal components, clusters, a map, doublet scores."""
