"""How an encoder is trained: objectives, batches, the loop, closed forms."""
