"""The store as SQL statements, independent of the database engine."""
