"""Scores as pure functions on arrays, each with its direction, range and chance level."""
