"""What everything stands on: errors, files, the registry, caption kinds, arrays, models."""
