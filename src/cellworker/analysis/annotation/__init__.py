"""Names and colours of clusters."""
