"""The embedded default: drawn scenes, their captions, and small models trained on them."""
