"""The paper's tables and figures about the model itself, with vzero's own parts and data."""
