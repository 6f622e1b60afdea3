"""`make demo`: from nothing to an answer on Kubernetes. `make demo-down`: back to nothing."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tools" / "cluster"))

import target  # noqa: E402 - found by the line above
from commands import run  # noqa: E402
from paths import BIN, KUBECONFIG  # noqa: E402
from steps import StepFailed, say, step  # noqa: E402

RELEASE = NAMESPACE = "octavo"
SERVICE = "chat"
# The likeliest first words lie far apart: what a step computes beside decides no rounding that shows (ADR 1).
QUESTION = "Name the capital of France."
EXPECTED = "Paris"
ASKER = "octavo-demo-ask"
STARTER = "octavo-demo-startup"


def up() -> None:
    """Cluster, operator, model, answer. Safe to repeat."""
    started = time.monotonic()
    say("Octavo demo: a language model on Kubernetes\n")
    place = target.ensure()
    os.environ.update(place.environment)
    with step("helm upgrade --install octavo charts/octavo"):
        _install(place)
    with step("kubectl apply -f examples/chat.yaml"):
        _kubectl("apply", "--filename", str(REPOSITORY / "examples" / "chat.yaml"))
    with step(f"kubectl wait --for=condition=Ready llmservice/{SERVICE}"):
        _wait_ready()
    url = _kubectl("get", "llmservice", SERVICE, "--output", "jsonpath={.status.url}")
    with step("ask in the cluster, with the openai client"):
        _ask(place, url)
    with step("octavo bench startup, in a fresh container of the same image"):
        _time_start(place)
    with step("kubectl wait --for=condition=ScalingActive hpa/chat (the autoscaler sees the pods' CPU)"):
        _kubectl("wait", "--for=condition=ScalingActive", f"hpa/{SERVICE}", "--timeout=120s")
    say(f"\n$ kubectl get llmservice,deploy,hpa,pods\n{_kubectl('get', 'llmservice,deploy,hpa,pods')}")
    _what_next(url, place)
    say(f"\nDone in {time.monotonic() - started:.0f} s.")


def env() -> None:
    """The line that makes kubectl and helm of this shell reach the demo's cluster."""
    if target.choose() == "own":
        words = {"KUBECONFIG": str(KUBECONFIG), "PATH": f"{BIN}:{os.environ['PATH']}"}
    elif target.choose() == "kind":
        words = {"KUBECONFIG": str(target.KIND_KUBECONFIG)}
    else:
        words = {"KUBECONFIG": os.environ["KUBECONFIG"]}
    print(f"export {' '.join(f'{key}={shlex.quote(value)}' for key, value in words.items())}")


def down() -> None:
    """The service, the operator and, where it is ours, the cluster."""
    if target.choose() == "KUBECONFIG":
        with step("delete the service and the operator"):
            run(["kubectl", "delete", "llmservice", SERVICE, "--ignore-not-found"])
            run(["helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"])
    target.remove()


def _install(place: target.Target) -> None:
    values = []
    for key, image in (("image", place.images["operator"]), ("runtime", place.images["demo"])):
        repository, _, tag = image.rpartition(":")
        values += ["--set", f"{key}.repository={repository}", "--set", f"{key}.tag={tag}"]
    run(
        ["helm", "upgrade", "--install", RELEASE, REPOSITORY / "charts" / "octavo", "--namespace", NAMESPACE,
         "--create-namespace", "--take-ownership", "--wait", "--timeout", "3m", *values],
        advice=f"kubectl --namespace {NAMESPACE} describe pods",
    )  # fmt: skip


def _wait_ready() -> None:
    try:
        _kubectl("wait", "--for=condition=Ready", f"llmservice/{SERVICE}", "--timeout=180s")
    except StepFailed:
        reason = _kubectl("get", "llmservice", SERVICE, "--output", "jsonpath={.status.conditions}")
        raise StepFailed(
            f"the service is not ready after 3 minutes: {reason}", f"kubectl describe llmservice {SERVICE}"
        ) from None


def _ask(place: target.Target, url: str) -> None:
    """Runs ask.py in a pod of its own, shows the answer as it comes, and checks it."""
    script = (REPOSITORY / "demo" / "ask.py").read_text()
    command = _in_a_pod(ASKER, place, "python", "-c", script, url, SERVICE, QUESTION)
    say(f"\n  > {QUESTION}")
    answer = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        print("  < ", end="", flush=True)
        while piece := asking.stdout.read(1):
            answer += piece
            print(piece, end="", flush=True)
    print(flush=True)
    if asking.returncode or EXPECTED not in answer:
        raise StepFailed(
            f"the answer should name {EXPECTED}, got {answer!r} (kubectl run ended with status {asking.returncode})",
            f"kubectl logs deployment/{SERVICE}",
        )


def _time_start(place: target.Target) -> None:
    """Prints how long a server takes to its first token where nothing was started before."""
    command = _in_a_pod(STARTER, place, "octavo", "bench", "startup", "--starts", "1", "--json")
    told = json.loads(run(command, advice=f"kubectl describe pod {STARTER}"))
    [start] = told["rows"]
    seconds = f"{start['first token']:.1f} s"
    say(f"\n  From the start of a server's process to its first token: {seconds} ({told['machine']})\n")


def _in_a_pod(name: str, place: target.Target, *words: str) -> list[str]:
    """The command line that runs `words` in a pod of its own, of the demo's image, and shows what they print. Removes
    what an earlier run left by that name."""
    _kubectl("delete", "pod", name, "--ignore-not-found", "--now")
    return [
        "kubectl", "run", name, "--image", place.images["demo"], "--restart=Never", "--rm", "--stdin", "--quiet",
        "--image-pull-policy=IfNotPresent", "--pod-running-timeout=2m", "--command", "--", *words,
    ]  # fmt: skip


def _what_next(url: str, place: target.Target) -> None:
    say(f"\nThe endpoint, inside the cluster: {url}\n\nThree things to try:")
    if place.name != "KUBECONFIG":
        say('  eval "$(python3 demo/demo.py env)"')
    say(f"  1. kubectl port-forward service/{SERVICE} 8000:80   # then: curl http://127.0.0.1:8000/v1/models")
    say(f"  2. kubectl edit llmservice {SERVICE}                # engine.maxModelLen: 2048, and watch the pods roll")
    say(f"  3. kubectl delete deployment {SERVICE}              # and see it come back")


def _kubectl(*words: str) -> str:
    return run(["kubectl", *words])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__)
    commands = {"up": up, "down": down, "env": env}
    parser.add_argument("command", choices=tuple(commands))
    try:
        commands[parser.parse_args().command]()
    except StepFailed as failure:
        say(f"FAILED: {failure.reason}\nWhat to do: {failure.advice}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
