"""One file per command: the only code that goes from a study or run to a run."""
