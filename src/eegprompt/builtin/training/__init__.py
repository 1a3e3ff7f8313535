"""Train the built-in models: ``python -m eegprompt.builtin.training all --out DIR``."""
