"""The command ``vzero eval`` and its subcommands."""
