"""The log as SQL statements, shared by the SQL engines."""
