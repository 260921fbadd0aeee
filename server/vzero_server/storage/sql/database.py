"""What the SQL store needs of a database engine."""

from typing import Protocol

from sqlalchemy import Engine


class SqlDatabase(Protocol):
    """An open database whose schema is current.

    The statements of this package read a policy's version and raise it later in the same
    transaction, and look a prompt up before they insert it. They are correct only while no two
    write transactions run side by side: that is what an implementation must guarantee. SQLite
    takes its write lock when a transaction begins.

    Attributes:
        writes: Begins transactions that exclude all other writers of the database, including
            those of other processes. Savepoints must work.
        reads: Begins transactions that see one snapshot: the last commit, or a later one. May be
            used from several threads.
    """

    @property
    def writes(self) -> Engine:
        """Engine for the one thread that writes."""
        ...

    @property
    def reads(self) -> Engine:
        """Engine for the threads that read."""
        ...

    def is_full(self, error: BaseException) -> bool:
        """Return whether a transaction failed because no space is left."""
        ...

    def close(self) -> None:
        """Close all connections and release the database."""
        ...
