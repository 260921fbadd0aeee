from hypothesis import given
from hypothesis import strategies as st

from vzero_server.model.length_batches import length_batches


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 100))
def test_every_prompt_is_in_one_batch_and_batches_are_full(
    lengths: list[int], max_tokens: int
) -> None:
    batches = [batch.tolist() for batch in length_batches(lengths, max_tokens)]
    ordered = [position for batch in batches for position in batch]
    assert ordered == sorted(range(len(lengths)), key=lambda position: lengths[position])
    for number, batch in enumerate(batches):
        longest = lengths[batch[-1]]
        assert len(batch) == 1 or len(batch) * longest <= max_tokens
        if number + 1 < len(batches):
            assert (len(batch) + 1) * lengths[batches[number + 1][0]] > max_tokens
