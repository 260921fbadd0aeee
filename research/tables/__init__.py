"""The paper's tables and figures, measured on outcomes of the policy zoo or of another file."""
