"""SingleCellExperiment and SummarizedExperiment: from a parsed object to an experiment, and back."""
