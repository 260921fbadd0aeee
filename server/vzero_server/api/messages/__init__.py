"""Proto messages and the domain, one into the other."""
