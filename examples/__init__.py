"""Examples of one page each, to copy and run against a server; not part of the package."""
