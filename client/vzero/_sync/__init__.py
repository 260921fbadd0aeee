"""The blocking client, generated from the asyncio client by ``tools/unasync.py``."""
