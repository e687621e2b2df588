"""Makes missing parts of an experiment: variable genes, principal components, clusters, a map, doublet scores."""
