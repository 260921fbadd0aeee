import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from tests.outcomes import outcome, sums
from vzero_server.errors import StorageFullError
from vzero_server.storage.sql import log, policies
from vzero_server.storage.sql.database import SqlDatabase
from vzero_server.storage.sql.group_commit import GroupCommitWriter
from vzero_server.storage.sqlite import SqliteDatabase


def hold(writer: GroupCommitWriter) -> threading.Event:
    """Keep the writer busy until the event is set."""
    started, release = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        started.set()
        release.wait()

    writer.submit(wait)
    started.wait()
    return release


def test_jobs_that_wait_share_a_commit(database: SqlDatabase) -> None:
    commits = []
    event.listen(database.writes, "commit", lambda _: commits.append(1))
    writer = GroupCommitWriter(database)
    release = hold(writer)
    futures = [
        writer.submit(lambda c, i=i: log.append(c, "default", f"p{i}", sums(1), now=1.0))
        for i in range(20)
    ]
    release.set()
    assert [future.result().policy.version for future in futures] == [1] * 20
    writer.close()
    assert len(commits) == 2


def test_a_failing_job_fails_alone(database: SqlDatabase) -> None:
    writer = GroupCommitWriter(database)

    def fail(connection: Connection) -> None:
        log.append(connection, "default", "bad", sums(1), now=1.0)
        raise LookupError("on purpose")

    release = hold(writer)
    good = writer.submit(lambda c: log.append(c, "default", "good", sums(1), now=1.0))
    bad = writer.submit(fail)
    release.set()
    with pytest.raises(LookupError, match="on purpose"):
        bad.result()
    assert good.result().policy.version == 1
    assert writer.submit(lambda c: policies.get_policy(c, "default", "bad")).result() is None
    writer.close()


def test_closing_commits_what_is_queued(database: SqlDatabase) -> None:
    writer = GroupCommitWriter(database)
    future = writer.submit(lambda c: log.append(c, "default", "a", sums(100), now=1.0), rows=100)
    writer.close()
    assert future.result().policy.version == 100
    with pytest.raises(RuntimeError, match="closed"):
        writer.submit(lambda _: None)


def test_a_full_disk_rejects_appends_and_loses_nothing(tmp_path: Path) -> None:
    """The size limit makes SQLite report the error of a full disk (SQLITE_FULL)."""
    database = SqliteDatabase(tmp_path / "data", max_bytes=400_000)
    writer = GroupCommitWriter(database)
    acked = 0
    with pytest.raises(StorageFullError):
        while True:
            chunk = [outcome(f"{acked + i}", f"{acked + i} " + "long " * 50) for i in range(50)]
            acked = (
                writer.submit(lambda c, chunk=chunk: log.append(c, "default", "a", chunk, 1.0))
                .result()
                .policy.version
            )
    assert acked > 0
    for _ in range(3):
        with pytest.raises(StorageFullError):
            writer.submit(lambda c: log.append(c, "default", "b", chunk, now=1.0)).result()
    record = writer.submit(lambda c: policies.get_policy(c, "default", "a")).result()
    assert record is not None
    assert record.version == acked
    # Once there is space again, appends succeed.
    writer.submit(lambda c: policies.delete_policy(c, "default", "a")).result()
    assert (
        writer.submit(lambda c: log.append(c, "default", "b", chunk, now=1.0)).result().accepted
        == 50
    )
    writer.close()
    database.close()
