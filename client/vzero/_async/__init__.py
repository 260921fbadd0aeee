"""The asyncio client. ``tools/unasync.py`` generates the blocking client from these modules."""
