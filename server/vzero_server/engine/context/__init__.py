"""Contexts of policies: windows, fitted contexts, and their caches."""
