"""Models of the server in torch: backbone, in-context head, runtimes, and their files."""
