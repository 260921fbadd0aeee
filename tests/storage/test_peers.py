from tests.outcomes import outcome
from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import log
from vzero_server.storage.sql.peers import find_peers, peer_rewards, peer_rewards_by_digest
from vzero_server.storage.sql.prompts import store_prompts
from vzero_server.storage.sqlite import Database


def fill(database: Database) -> dict[str, int]:
    """Keys of policies: `all` tried a, b, c (a twice), `some` b, `none` z."""
    keys = {}
    with database.writes.begin() as connection:
        for name, prompts in (("me", "abc"), ("all", "abca"), ("some", "b"), ("none", "z")):
            outcomes = [
                outcome(str(i), prompt, reward=0.5 + 0.25 * i)
                if name == "some"
                else outcome(str(i), prompt, reward=float(i == 0))
                for i, prompt in enumerate(prompts)
            ]
            keys[name] = log.append(connection, name, outcomes, 0.0).policy.key
    return keys


def test_peers_are_those_that_tried_the_same_prompts(database: Database) -> None:
    keys = fill(database)
    with database.writes.begin() as connection:
        prompts = list(store_prompts(connection, ["a", "b", "c"])[0].values())
        found = find_peers(connection, keys["me"], prompts, 10)
        assert [peer.key for peer in found] == [keys["all"], keys["some"]]
        assert (found[0].reward_sum, found[0].outcomes) == (1.0, 4)
        assert [p.key for p in find_peers(connection, keys["me"], prompts, 1)] == [keys["all"]]
        assert find_peers(connection, keys["none"], [], 10) == []


def test_their_rewards_are_averaged_per_prompt(database: Database) -> None:
    keys = fill(database)
    with database.writes.begin() as connection:
        by_text = store_prompts(connection, ["a", "b", "c"])[0]
        peers = [keys["all"], keys["some"]]
        found = peer_rewards(connection, peers, list(by_text.values()))
        assert sorted(zip(*(column.tolist() for column in found), strict=True)) == sorted(
            [
                (by_text["a"], keys["all"], 0.5),
                (by_text["b"], keys["all"], 0.0),
                (by_text["b"], keys["some"], 0.5),
                (by_text["c"], keys["all"], 0.0),
            ]
        )
        digests = [prompt_digest("a"), prompt_digest("never seen")]
        assert peer_rewards_by_digest(connection, peers, digests) == [
            (digests[0], keys["all"], 0.5)
        ]
