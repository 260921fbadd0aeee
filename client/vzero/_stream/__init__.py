"""Delivery of outcomes without input or output: buffer, spool folder and the decisions between."""
