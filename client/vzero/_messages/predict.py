"""Requests for values."""

from vzero._checks import check_name
from vzero._messages.batches import split_prompts
from vzero._messages.columns import Prompts, check_prompts
from vzero._options import ReadOptions, write_options
from vzero.v1 import value_pb2


def predict_requests(
    policy_id: str, prompts: Prompts, options: ReadOptions
) -> list[value_pb2.PredictRequest]:
    """Build the requests for the values of prompts, in order; see `Client.predict`.

    Raises:
        InvalidArgument: an argument breaks a rule.
        TypeError: an option is unknown.
    """
    shared = value_pb2.PredictRequest(policy_id=check_name("policy_id", policy_id))
    write_options("predict", shared, options)
    requests = []
    for batch in split_prompts(check_prompts(prompts)):
        request = value_pb2.PredictRequest(prompts=batch)
        request.MergeFrom(shared)
        requests.append(request)
    return requests
