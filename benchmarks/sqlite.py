"""Reference for updates: durable inserts into SQLite without a server."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path


def rows_per_second(path: Path, *, rows: int, batch: int) -> float:
    """Insert rows like those of outcomes, and return rows per second.

    Each batch is durable before the next begins.

    Args:
        path: A new database file.
        rows: Number of rows; a multiple of ``batch``.
        batch: Rows per transaction.
    """
    values = [
        (1, row, f"known-0/1/{row}", row % 4096, 0.5, 8, 100.0, 1, 1.7e9) for row in range(rows)
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE outcome (policy_key INTEGER, seq INTEGER, outcome_id TEXT,"
            " prompt_key INTEGER, reward REAL, rollouts INTEGER, cost REAL, step INTEGER,"
            " observed_at REAL)"
        )
        began = time.perf_counter()
        for start in range(0, rows, batch):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values[start : start + batch],
            )
            connection.execute("COMMIT")
        return rows / (time.perf_counter() - began)
