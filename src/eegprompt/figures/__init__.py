"""How figures look: one style, scalp maps."""
