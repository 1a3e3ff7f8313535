"""Which electrodes and time points an output depends on, and whether such a map can be trusted."""
