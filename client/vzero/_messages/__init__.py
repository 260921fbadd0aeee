"""Messages of the protocol: requests built from checked arguments, and replies read."""
