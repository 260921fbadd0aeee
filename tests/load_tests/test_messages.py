"""Prompts and messages of the load tests."""

import pytest

from load_tests.messages import WrongReplyError, check_acks, check_values, chunks, predict_request
from load_tests.prompts import PromptSource, common_prompts
from vzero.v1 import value_pb2


def test_two_sources_share_only_the_common_prompts() -> None:
    first, second = (set(PromptSource(seed).take(400)) for seed in ("first", "second"))
    assert first & second <= set(common_prompts(256))
    assert 0.15 < len(first & set(common_prompts(256))) / 400 < 0.35
    lengths = [len(prompt) for prompt in first]
    assert min(lengths) < 40
    assert max(lengths) > 1000


def test_chunks_contain_every_prompt_once() -> None:
    prompts = PromptSource("source").take(150)
    requests = chunks("p", prompts, run="r", step=3, rows=64)
    assert [len(chunk.outcomes) for chunk in requests] == [64, 64, 22]
    outcomes = [outcome for chunk in requests for outcome in chunk.outcomes]
    assert [outcome.prompt for outcome in outcomes] == prompts
    assert len({outcome.outcome_id for outcome in outcomes}) == 150
    assert all(0 <= outcome.reward <= 1 and outcome.step == 3 for outcome in outcomes)


def test_wrong_replies_raise_errors() -> None:
    request = predict_request("p", ["a", "b"])
    value = value_pb2.Value(mean=0.5, lower=0.2, upper=0.8)
    check_values(request, value_pb2.PredictResponse(values=[value, value]))
    with pytest.raises(WrongReplyError):
        check_values(request, value_pb2.PredictResponse(values=[value]))
    (chunk,) = chunks("p", ["a", "b"], run="r", step=1)
    ack = value_pb2.UpdateContextResponse(policy_id="p", version=2, accepted=2)
    check_acks([chunk], [ack])
    for wrong in ([], [value_pb2.UpdateContextResponse(policy_id="p", version=2, accepted=1)]):
        with pytest.raises(WrongReplyError):
            check_acks([chunk], wrong)
