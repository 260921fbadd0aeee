"""vzero inside trainers. Each public module needs the package of its name."""
