"""Evaluations written as Markdown and JSON pages."""
