"""Contract of stores: histories of prompts."""

from tests.outcomes import outcome
from tests.storage.stores import prompt_keys
from vzero_server.storage.base import MAX_HISTORY, OutcomeStore
from vzero_server.storage.records import prompt_digest


async def test_the_newest_outcomes_of_each_pair_are_read_oldest_first(store: OutcomeStore) -> None:
    count = 4 * MAX_HISTORY
    keys = []
    for name, prompts in (("a", 2), ("b", 3)):
        chunk = [outcome(f"{i}", f"p{i % prompts}", step=i) for i in range(count)]
        keys.append((await store.append(name, chunk)).policy.key)
    digests = [prompt_digest(text) for text in ("p0", "p2", "never seen")]
    histories = await store.histories(keys, digests, None)
    assert set(histories) == {(keys[0], digests[0]), (keys[1], digests[0]), (keys[1], digests[1])}
    for (policy_key, digest), rows in histories.items():
        stride = 2 if policy_key == keys[0] else 3
        first = 2 if digest == digests[1] else 0
        steps = list(range(first, count, stride))[-MAX_HISTORY:]
        assert [row.step for row in rows] == steps
        assert [row.seq for row in rows] == [step + 1 for step in steps]
    until = await store.histories(keys[1:], digests, 10)
    assert [row.step for row in until[keys[1], digests[1]]] == [2, 5, 8]
    key_of = await prompt_keys(store, "b")
    by_key = await store.histories_by_key(keys[1], [key_of["p0"], key_of["p2"]], 10)
    assert by_key == {
        key_of["p0"]: until[keys[1], digests[0]],
        key_of["p2"]: until[keys[1], digests[1]],
    }
