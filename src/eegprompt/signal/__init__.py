"""The signal: electrode positions, and the named steps that change it."""
