"""What a matrix of a file holds, and matrices in the making."""
