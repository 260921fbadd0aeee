"""Feature vectors of prompts: the cache, the queue and the batches of the backbone."""
