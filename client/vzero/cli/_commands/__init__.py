"""Commands of the light client, one module for each command or group."""
