"""The durable log of outcomes behind one protocol, and the engines that keep it."""
