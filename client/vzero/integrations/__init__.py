"""vzero inside trainers; each module needs the package it is named after."""
