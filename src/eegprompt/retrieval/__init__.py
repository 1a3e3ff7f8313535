"""From an embedding to the nearest captions of a candidate pool, and how far to trust them."""
