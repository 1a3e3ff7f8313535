"""One file per source of recordings; all of them write the same study."""
