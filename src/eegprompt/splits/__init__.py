"""Which trials train, validate and test, and what these sets share."""
