"""A server in a process of its own, for tests, benchmarks and demonstrations."""
