"""The configuration of the paper: adapter, token states and TabPFN."""
