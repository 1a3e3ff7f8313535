"""Permutation tests, bootstrap intervals, correction for many tests."""
