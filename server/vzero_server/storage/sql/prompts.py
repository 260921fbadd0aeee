"""Statements on prompts and their embeddings, which all policies share."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, delete, exists, insert, select

from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import schema
from vzero_server.types import Features

# Most parameters of one statement; SQLite's limit is 32,766.
_MAX_PARAMETERS = 16_384

T = TypeVar("T")


def store_prompts(
    connection: Connection, prompts: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Store the prompts that are new; return the keys of all by text, and the new texts."""
    texts = {prompt_digest(text): text for text in prompts}
    keys = keys_by_digest(connection, list(texts))
    new_digests = [digest for digest in texts if digest not in keys]
    if new_digests:
        connection.execute(
            insert(schema.prompt),
            [{"digest": digest, "text": texts[digest].encode()} for digest in new_digests],
        )
        keys |= keys_by_digest(connection, new_digests)
    keys_by_text = {text: keys[digest] for digest, text in texts.items()}
    return keys_by_text, [texts[digest] for digest in new_digests]


def keys_by_digest(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, int]:
    """Look up the keys of prompts by digest; unknown prompts are left out."""
    prompt = schema.prompt.c
    keys: dict[bytes, int] = {}
    for batch in batches(digests):
        statement = select(prompt.digest, prompt.key).where(prompt.digest.in_(batch))
        for digest, key in connection.execute(statement):
            keys[digest] = key
    return keys


def drop_orphans(connection: Connection, keys: Sequence[int]) -> None:
    """Delete those of some prompts, and their embeddings, that have no outcome."""
    prompt, embedding = schema.prompt, schema.embedding
    for batch in batches(keys):
        statement = select(prompt.c.key).where(
            prompt.c.key.in_(batch), ~exists().where(schema.outcome.c.prompt_key == prompt.c.key)
        )
        orphans = list(connection.scalars(statement))
        connection.execute(delete(embedding).where(embedding.c.prompt_key.in_(orphans)))
        connection.execute(delete(prompt).where(prompt.c.key.in_(orphans)))


def model_key(connection: Connection, fingerprint: str) -> int:
    """Return the key of a model, which is stored if it is new."""
    statement = select(schema.model.c.key).where(schema.model.c.fingerprint == fingerprint)
    key = connection.scalar(statement)
    if key is None:
        connection.execute(insert(schema.model).values(fingerprint=fingerprint))
        key = connection.scalars(statement).one()
    return int(key)


def prompt_texts(connection: Connection, keys: Sequence[int]) -> dict[int, str]:
    """Read the texts of prompts by key; unknown keys are left out."""
    prompt = schema.prompt.c
    texts: dict[int, str] = {}
    for batch in batches(keys):
        statement = select(prompt.key, prompt.text).where(prompt.key.in_(batch))
        for key, text in connection.execute(statement):
            texts[key] = text.decode()
    return texts


def read_embeddings(
    connection: Connection, model_key: int, digests: Sequence[bytes]
) -> dict[bytes, Features]:
    """Read stored embeddings of one model by digest; prompts without one are left out."""
    prompt, embedding = schema.prompt, schema.embedding
    vectors: dict[bytes, Features] = {}
    for batch in batches(digests):
        statement = (
            select(prompt.c.digest, embedding.c.vector)
            .join(embedding, embedding.c.prompt_key == prompt.c.key)
            .where(embedding.c.model_key == model_key, prompt.c.digest.in_(batch))
        )
        for digest, vector in connection.execute(statement):
            vectors[digest] = np.frombuffer(vector, dtype="<f2")
    return vectors


def write_embeddings(connection: Connection, model_key: int, vectors: dict[bytes, Features]) -> int:
    """Store embeddings, by digest, of known prompts that have none; return how many."""
    prompt, embedding = schema.prompt, schema.embedding
    missing: list[tuple[int, bytes]] = []
    for batch in batches(list(vectors)):
        statement = select(prompt.c.key, prompt.c.digest).where(
            prompt.c.digest.in_(batch),
            ~exists().where(
                embedding.c.prompt_key == prompt.c.key, embedding.c.model_key == model_key
            ),
        )
        missing += [(key, digest) for key, digest in connection.execute(statement)]
    if missing:
        connection.execute(
            insert(embedding),
            [
                {
                    "prompt_key": key,
                    "model_key": model_key,
                    "vector": vectors[digest].astype("<f2").tobytes(),
                }
                for key, digest in missing
            ],
        )
    return len(missing)


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split a sequence into parts that fit into the parameters of one statement."""
    for start in range(0, len(items), _MAX_PARAMETERS):
        yield items[start : start + _MAX_PARAMETERS]
