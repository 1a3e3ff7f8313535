"""Scores of captions, classes and images as tables, each with chance, interval, floor and ceiling."""
