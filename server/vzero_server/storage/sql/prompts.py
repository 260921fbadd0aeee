"""Prompts and their embeddings: stored once, whichever policies name them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, exists, insert, select

from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import schema
from vzero_server.types import Features

# Parameters of one statement; SQLite's limit is 32,766.
_MOST_PARAMETERS = 16_384


def store_prompts(
    connection: Connection, prompts: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Keys of prompts by text, and the texts among them that were stored now."""
    by_digest = {prompt_digest(text): text for text in prompts}
    keys = keys_of(connection, list(by_digest))
    new = [digest for digest in by_digest if digest not in keys]
    if new:
        connection.execute(
            insert(schema.prompt),
            [{"digest": digest, "text": by_digest[digest].encode()} for digest in new],
        )
        keys |= keys_of(connection, new)
    return {text: keys[digest] for digest, text in by_digest.items()}, [by_digest[d] for d in new]


def keys_of(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, int]:
    """Keys of those of some prompts, by digest, that are stored."""
    found: dict[bytes, int] = {}
    for piece in pieces(digests):
        statement = select(schema.prompt.c.digest, schema.prompt.c.key)
        for digest, key in connection.execute(statement.where(schema.prompt.c.digest.in_(piece))):
            found[digest] = key
    return found


def drop_orphans(connection: Connection, keys: Sequence[int]) -> None:
    """Delete those of the prompts, and their embeddings, that no outcome names."""
    for piece in pieces(keys):
        orphans = select(schema.prompt.c.key).where(
            schema.prompt.c.key.in_(piece),
            ~exists().where(schema.outcome.c.prompt_key == schema.prompt.c.key),
        )
        gone = list(connection.scalars(orphans))
        connection.execute(delete(schema.embedding).where(schema.embedding.c.prompt_key.in_(gone)))
        connection.execute(delete(schema.prompt).where(schema.prompt.c.key.in_(gone)))


def model_key(connection: Connection, fingerprint: str) -> int:
    """The key of a model, which is stored if it is new."""
    wanted = select(schema.model.c.key).where(schema.model.c.fingerprint == fingerprint)
    found = connection.scalar(wanted)
    if found is None:
        connection.execute(insert(schema.model).values(fingerprint=fingerprint))
        found = connection.scalar(wanted)
    return int(found or 0)


def prompt_texts(connection: Connection, keys: Sequence[int]) -> dict[int, str]:
    """The texts of prompts by key."""
    texts: dict[int, str] = {}
    for piece in pieces(keys):
        statement = select(schema.prompt.c.key, schema.prompt.c.text)
        for key, text in connection.execute(statement.where(schema.prompt.c.key.in_(piece))):
            texts[key] = text.decode()
    return texts


def read_embeddings(
    connection: Connection, model_key: int, digests: Sequence[bytes]
) -> dict[bytes, Features]:
    """Stored embeddings of one model by the digests of their prompts."""
    prompt, embedding = schema.prompt, schema.embedding
    found: dict[bytes, Features] = {}
    for piece in pieces(digests):
        statement = (
            select(prompt.c.digest, embedding.c.vector)
            .join(embedding, embedding.c.prompt_key == prompt.c.key)
            .where(embedding.c.model_key == model_key, prompt.c.digest.in_(piece))
        )
        for digest, vector in connection.execute(statement):
            found[digest] = np.frombuffer(vector, dtype="<f2")
    return found


def write_embeddings(connection: Connection, model_key: int, vectors: dict[bytes, Features]) -> int:
    """Store embeddings, by digest, of the prompts that are stored and lack one.

    Returns:
        How many were stored.
    """
    prompt, embedding = schema.prompt, schema.embedding
    lacking: list[tuple[int, bytes]] = []
    for piece in pieces(list(vectors)):
        statement = select(prompt.c.key, prompt.c.digest).where(
            prompt.c.digest.in_(piece),
            ~exists().where(
                embedding.c.prompt_key == prompt.c.key, embedding.c.model_key == model_key
            ),
        )
        lacking += [(key, digest) for key, digest in connection.execute(statement)]
    if lacking:
        connection.execute(
            insert(embedding),
            [
                {
                    "prompt_key": key,
                    "model_key": model_key,
                    "vector": vectors[digest].astype("<f2").tobytes(),
                }
                for key, digest in lacking
            ],
        )
    return len(lacking)


def pieces(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut a long list into what one statement can name."""
    for start in range(0, len(items), _MOST_PARAMETERS):
        yield items[start : start + _MOST_PARAMETERS]
