"""Corrections of estimates by peers, by the fleet and by the prompt's own history."""
