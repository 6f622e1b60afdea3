"""The PodDisruptionBudget: what a node drain may do."""

from built import built


def test_one_replica_goes_at_a_time_and_one_that_does_not_answer_at_once() -> None:
    spec = built("PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["selector"] == {"matchLabels": {"serving.octavo.dev/service": "chat"}}
