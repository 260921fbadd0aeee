"""How many calls of a kind are served at once."""

from vzero_server.api.errors import NoRoomError


class ConcurrencyLimiter:
    """Places for calls of one kind: ``with room`` takes one while a call is served.

    A call that finds no place is refused at once, since waiting would take memory too.

    Attributes:
        taken: Places in use.
    """

    def __init__(self, places: int, *, kind: str, reason: str) -> None:
        """Set the number of places.

        Args:
            places: At least 1.
            kind: What takes them, for the message.
            reason: Of a refusal, for programs.
        """
        self.taken = 0
        self._places = places
        self._kind = kind
        self._reason = reason

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            NoRoomError: There is none.
        """
        if self.taken >= self._places:
            raise NoRoomError(f"{self._places} {self._kind} are served already", self._reason)
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1
