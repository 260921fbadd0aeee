"""Contract of stores: peers and their rewards."""

from tests.outcomes import outcome
from tests.storage.stores import prompt_keys
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import prompt_digest


async def fill(store: OutcomeStore) -> dict[str, int]:
    """Keys of policies with outcomes: `all` of a, b, c (a twice), `some` of b, `none` of z."""
    keys = {}
    for name, prompts in (("me", "abc"), ("all", "abca"), ("some", "b"), ("none", "z")):
        outcomes = [
            outcome(str(i), prompt, reward=0.5 + 0.25 * i)
            if name == "some"
            else outcome(str(i), prompt, reward=float(i == 0))
            for i, prompt in enumerate(prompts)
        ]
        keys[name] = (await store.append(name, outcomes)).policy.key
    return keys


async def test_peers_are_those_that_tried_the_same_prompts(store: OutcomeStore) -> None:
    keys = await fill(store)
    # A change of the policy does not count as an outcome.
    await store.update_policy("all", {"labels": {"team": "blue"}})
    prompts = list((await prompt_keys(store, "me")).values())
    peers = await store.find_peers(keys["me"], prompts, 10)
    assert [peer.key for peer in peers] == [keys["all"], keys["some"]]
    assert (peers[0].reward_sum, peers[0].outcomes) == (1.0, 4)
    assert [p.key for p in await store.find_peers(keys["me"], prompts, 1)] == [keys["all"]]
    assert await store.find_peers(keys["none"], [], 10) == []


async def test_their_rewards_are_averaged_per_prompt(store: OutcomeStore) -> None:
    keys = await fill(store)
    by_text = await prompt_keys(store, "me")
    peer_keys = [keys["all"], keys["some"]]
    rewards = await store.peer_rewards(peer_keys, list(by_text.values()))
    assert sorted(zip(*(column.tolist() for column in rewards), strict=True)) == sorted(
        [
            (by_text["a"], keys["all"], 0.5),
            (by_text["b"], keys["all"], 0.0),
            (by_text["b"], keys["some"], 0.5),
            (by_text["c"], keys["all"], 0.0),
        ]
    )
    digests = [prompt_digest("a"), prompt_digest("never seen")]
    assert await store.peer_rewards_by_digest(peer_keys, digests) == [
        (digests[0], keys["all"], 0.5)
    ]
