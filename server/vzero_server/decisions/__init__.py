"""What follows from values: how many rollouts a prompt gets, which policy answers it."""
