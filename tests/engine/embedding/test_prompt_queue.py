"""The queue of prompts against a sorted list."""

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from vzero_server.engine.embedding.prompt_queue import PromptQueue, QueuedPrompt

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just("pop"), st.just(0), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 50), st.just(0)),
    ),
    max_size=40,
)


@given(ACTIONS, st.integers(0, 6))
def test_the_queue_behaves_as_a_sorted_list(actions: list[tuple[str, int, int]], now: int) -> None:
    """In the order of entries, the tokens that are due, and the queue of each entry."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        queue, expected = PromptQueue(), list[QueuedPrompt]()
        for number, (action, argument, tokens) in enumerate(actions):
            if action == "push":
                position = (float(argument), number)
                entry = QueuedPrompt(
                    b"", "", position[0], position, 0.0, loop.create_future(), b"x" * tokens
                )
                queue.push(entry)
                expected.append(entry)
                expected.sort(key=lambda entry: entry.position)
            elif expected and action == "pop":
                assert queue.pop() is expected.pop(0)
            elif expected:
                entry = expected.pop(argument % len(expected))
                queue.remove(entry)
                assert entry.queue is None
            due = [entry for entry in expected if entry.position[0] < now]
            assert len(queue) == len(expected)
            assert queue.due_tokens(now) == sum(len(entry.tokens) for entry in due)
            assert all(entry.queue is queue for entry in expected)
        assert [queue.pop() for _ in range(len(queue))] == expected
