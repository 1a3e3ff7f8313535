"""What surrounds a score: permutation chance, intervals, correction for many heads."""
