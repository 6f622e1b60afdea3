"""The ServiceAccount: an identity without a right."""

from built import built, pod


def test_pods_run_as_an_account_of_their_own_without_a_token() -> None:
    account = built("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == account["metadata"]["name"]
    assert pod()["automountServiceAccountToken"] is False
