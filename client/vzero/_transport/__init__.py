"""The way to a server: address, channel, deadlines, retries and errors."""
