"""How a head comes about: episodes, losses, recipe and trainer."""
