"""Troubles of services, each with what `octavo why` is to make of it."""

import copy
from dataclasses import replace
from typing import Any

from known import condition, healthy, in_trouble, loaded, pod

from octavo_operator.commands.evidence import Evidence, Log
from octavo_runtime.protocol import metrics

GPU = {"accelerator": {"type": "nvidia"}}
IN_QUEUE = {metrics.REQUEST_QUEUE: {"0.1": 0, "5.0": 100, "+Inf": 100}}
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-01-01T11:55:00Z"}}


def ended(message: str, code: int = 2, **more: Any) -> dict[str, Any]:
    """A container that ended with these last words, and waits to be started again."""
    last = {"exitCode": code, "message": message, "reason": "Error"} | more
    return {"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": last}}


def unscheduled(message: str) -> Evidence:
    evidence = in_trouble(healthy(**GPU))
    (waiting,) = evidence.pods
    waiting["status"] = {
        "phase": "Pending",
        "conditions": [condition("PodScheduled", "False", "Unschedulable", message)],
    }
    return evidence


def refused(**rates: int) -> dict[Any, Any]:
    codes = {code.removeprefix("http_"): count for code, count in rates.items()}
    return {metrics.KEY_REQUESTS: {"200": 100} | codes}


def not_ready(reason: str, message: str, **metadata: Any) -> Evidence:
    evidence = healthy()
    body = copy.deepcopy(evidence.body)
    body["metadata"] |= metadata
    body["status"]["conditions"] = [condition("Ready", "False", reason, message)]
    return replace(evidence, body=body)


def abandoned(**spec: Any) -> Evidence:
    """The status is of the time in which there was a Deployment."""
    evidence = healthy(**spec)
    body = copy.deepcopy(evidence.body)
    body["status"]["conditions"].append(condition("Valid", "True", "Accepted"))
    return replace(evidence, body=body, owned={}, pods=[], samples={})


def autoscaled(reason: str, since: str = "2026-01-01T10:00:00Z") -> Evidence:
    evidence = healthy(autoscaling={"maxReplicas": 2, "targets": {"queueDepth": 4}})
    body = copy.deepcopy(evidence.body)
    body["status"]["conditions"].append(condition("ScalingActive", "False", reason, "no octavo_requests_waiting"))
    body["status"]["conditions"][-1]["lastTransitionTime"] = since
    return replace(evidence, body=body)


def at_its_maximum(now: int) -> Evidence:
    evidence = healthy(autoscaling={"maxReplicas": 4})
    autoscaler = {"spec": {"maxReplicas": 4}, "status": {"currentReplicas": now}}
    busy = loaded(evidence, {metrics.REQUESTS_WAITING: 9, metrics.KV_CACHE_USAGE_RATIO: 0.9} | IN_QUEUE)
    return replace(busy, owned={**busy.owned, "HorizontalPodAutoscaler": autoscaler})


def restarting() -> Evidence:
    evidence = healthy()
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T11:50:00Z", "reason": "Error"}}
    flapping = pod("chat-1", evidence.owned["Deployment"], restartCount=4, lastState=last)
    return replace(evidence, pods=[flapping, evidence.pods[1]], logs={"chat-1": Log("", "octavo: the engine hung\n")})


def loading(started: str, *probed: str) -> Evidence:
    """`probed`: what the kubelet said of its probes."""
    said = [{"reason": "Unhealthy", "message": each} for each in probed]
    return in_trouble(healthy(), Log("downloading\n"), events=said, state={"running": {"startedAt": started}})


def stalled() -> Evidence:
    """A rollout past its deadline, with every pod that there is well."""
    evidence = healthy()
    deployment = copy.deepcopy(evidence.owned["Deployment"])
    said = 'ReplicaSet "chat-7" has timed out progressing.'
    deployment["status"] |= {
        "updatedReplicas": 1,
        "conditions": [condition("Progressing", "False", "ProgressDeadlineExceeded", said)],
    }
    body = not_ready("ProgressDeadlineExceeded", "the same").body
    return replace(evidence, body=body, owned=evidence.owned | {"Deployment": deployment})


def unseen() -> Evidence:
    """A pod that no scheduler has looked at."""
    evidence = in_trouble(healthy())
    (waiting,) = evidence.pods
    del waiting["spec"]["nodeName"]
    waiting["status"] = {"phase": "Pending"}
    return replace(evidence, body=not_ready("NotScheduled", "the same").body)


WAITING, RUNNING, USAGE = metrics.REQUESTS_WAITING, metrics.REQUESTS_RUNNING, metrics.KV_CACHE_USAGE_RATIO
UTILISED, QUERIES, HITS = metrics.GPU_UTILIZATION_RATIO, metrics.PREFIX_CACHE_QUERIES, metrics.PREFIX_CACHE_HITS
CHATTY = {"engine": {"extraArgs": ["--log-level=debug"]}}
# What is known -> the rule, words of its evidence, and the change; None: none is proposed.
CASES: dict[str, tuple[Evidence, str, list[str], dict[str, Any] | None]] = {
    "killed for want of memory": (
        in_trouble(healthy(resources={"memory": "2Gi"}), restartCount=2, lastState=OOM),
        "PodOutOfMemory",
        ["OOMKilled at 2026-01-01T11:55:00Z, 2 restarts, limit 2Gi"],
        {"resources": {"memory": "3Gi"}},
    ),
    "the GPU's memory is used up": (
        in_trouble(healthy(**GPU), Log("", "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n"), **ended("x")),
        "GpuOutOfMemory",
        ["CUDA out of memory. Tried 2 GiB", "gpuMemoryUtilization 0.9, maxNumSeqs 64"],
        {"engine": {"gpuMemoryUtilization": 0.85, "maxNumSeqs": 32}},
    ),
    "a gated model": (
        in_trouble(
            healthy(model={"uri": "hf://meta-llama/Llama-3.1-8B"}),
            **ended("model: no permission to read meta-llama/Llama-3.1-8B (HTTP 401); accept its terms"),
        ),
        "NoAccessToModel",
        ["no permission to read meta-llama/Llama-3.1-8B"],
        {"model": {"tokenSecret": {"name": "hub", "key": "token"}}},
    ),
    "a gated model, with a token that does not open it": (
        in_trouble(
            healthy(model={"uri": "hf://meta-llama/Llama-3.1-8B", "tokenSecret": {"name": "mine"}}),
            **ended("model: no permission to read meta-llama/Llama-3.1-8B (HTTP 403)"),
        ),
        "NoAccessToModel",
        ["HTTP 403"],
        None,
    ),
    "a full disk": (
        in_trouble(healthy(), **ended("model: download of hf://a/b failed: [Errno 28] No space left on device")),
        "DiskFull",
        ["No space left on device"],
        {
            "podTemplate": {
                "spec": {
                    "volumes": [
                        {
                            "name": "cache",
                            "emptyDir": None,
                            "ephemeral": {
                                "volumeClaimTemplate": {
                                    "spec": {
                                        "accessModes": ["ReadWriteOnce"],
                                        "resources": {"requests": {"storage": "100Gi"}},
                                    }
                                }
                            },
                        }
                    ]
                }
            }
        },
    ),
    "a hub out of reach": (
        in_trouble(healthy(), **ended("model: cannot reach the hub for hf://a/b, and it is not in the cache")),
        "HubUnreachable",
        ["cannot reach the hub"],
        None,
    ),
    "an architecture that is not served": (
        in_trouble(healthy(), **ended("model: architecture must be one of LlamaForCausalLM, got 'MambaForCausalLM'")),
        "UnsupportedModel",
        ["MambaForCausalLM"],
        None,
    ),
    "a path that is not there": (
        in_trouble(healthy(), **ended("model: file:///nowhere does not exist")),
        "ModelNotFound",
        ["/nowhere does not exist"],
        None,
    ),
    "a driver that is too old": (
        in_trouble(healthy(**GPU), **ended("RuntimeError: CUDA driver version is insufficient for CUDA runtime")),
        "GpuDriver",
        ["insufficient"],
        None,
    ),
    "a cache that does not fit": (
        in_trouble(
            healthy(resources={"memory": "1Gi"}),
            **ended("kv_cache_memory: must be at most 0.20 GB, which weights and reserves leave of 1.07 GB"),
        ),
        "ModelDoesNotFit",
        ["kv_cache_memory: must be at most"],
        {"resources": {"memory": "1536Mi"}},
    ),
    "no GPU is free": (
        unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        "NoGpu",
        ["Insufficient nvidia.com/gpu", "free a GPU"],
        None,
    ),
    "an image that is not there": (
        in_trouble(healthy(), state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}),
        "PodInTrouble",
        ["cannot pull image octavo/runtime:1"],
        None,
    ),
    "last words that nobody knows": (
        in_trouble(healthy(), **ended("Segmentation fault")),
        "PodInTrouble",
        ["Segmentation fault"],
        None,
    ),
    "a pod that no scheduler looks at": (
        unseen(),
        "StandsStill",
        ["1 of 1 pods stand still: NotScheduled", "since 2026-01-01T10:00:00Z", "kube-scheduler"],
        None,
    ),
    "a container that is being created for long": (
        in_trouble(healthy(), state={"waiting": {"reason": "ContainerCreating"}}),
        "StandsStill",
        ["stand still: ContainerCreating", "on node a since 2026-01-01T10:00:00Z", "no event says why"],
        None,
    ),
    "an engine that runs and is never ready": (
        loading("2026-01-01T11:29:00Z"),
        "StandsStill",
        ["stand still: PodNotReady", "since 2026-01-01T11:29:00Z", "last line of the log: downloading"],
        None,
    ),
    "a rollout past its deadline": (
        stalled(),
        "StandsStill",
        ["the rollout stands still: ProgressDeadlineExceeded", "since 2026-01-01T10:00:00Z", "chat-7"],
        None,
    ),
    "a start that takes long": (
        loading("2026-01-01T11:30:00Z"),
        "SlowStart",
        ["has been loading for 30 min", "downloading"],
        None,
    ),
    "a probe of podTemplate that never succeeds": (
        loading("2026-01-01T11:30:00Z", "Readiness probe failed: exit status 1\n"),
        "SlowStart",
        ["downloading", "the kubelet's last word: Readiness probe failed: exit status 1"],
        None,
    ),
    "restarts": (
        restarting(),
        "RestartLoop",
        ["4 restarts, the last 10 min ago with exit code 1", "the engine hung"],
        None,
    ),
    "an operator that is away": (
        not_ready("Serving", "", generation=4),
        "OperatorAway",
        ["generation 4, observedGeneration 3, changed 43200 s ago"],
        None,
    ),
    "a Deployment that is gone while the operator is away": (
        abandoned(),
        "OperatorAway",
        ["there is no Deployment chat; the status says Ready True Serving"],
        None,
    ),
    "a deletion that a finalizer holds": (
        not_ready("Starting", "", deletionTimestamp="2026-01-01T11:00:00Z", finalizers=["a.io/backup", "b.io/x"]),
        "BeingDeleted",
        ["deletionTimestamp 2026-01-01T11:00:00Z", "finalizers: a.io/backup, b.io/x"],
        None,
    ),
    "a name that is taken": (
        not_ready("NameConflict", "Service chat is another's"),
        "NotCarriedOut",
        ["Service chat is another's"],
        None,
    ),
    "answers that fail": (
        loaded(healthy(), refused(http_500=20)),
        "RequestsFail",
        ["4.00 requests a second end with HTTP 500", "of 24.00 a second"],
        None,
    ),
    "a limit that clients meet": (
        loaded(healthy(endpoint={"rateLimit": {"requestsPerMinute": 60}}), refused(http_429=20)),
        "RateLimited",
        ["4.00 of 24.00", "endpoint.rateLimit.requestsPerMinute 60 a replica"],
        {"endpoint": {"rateLimit": {"requestsPerMinute": 120}}},
    ),
    "a queue that is full": (
        loaded(healthy(engine={"maxQueueLen": 8}), refused(http_429=20)),
        "RateLimited",
        ["engine.maxQueueLen 8"],
        {"engine": {"maxQueueLen": 16}},
    ),
    "clients without a key": (loaded(healthy(), refused(http_401=20)), "Unauthorized", ["4.00 of 24.00"], None),
    "clients that err": (loaded(healthy(), refused(http_400=20)), "InvalidRequests", ["HTTP 400"], None),
    "more than the pods answer": (
        loaded(healthy(), {WAITING: 9, RUNNING: 20, USAGE: 0.8} | IN_QUEUE),
        "QueueGrows",
        ["18 requests wait (0 10 s before), 40 run", "99 of 100 waited 5.0 s", "KV cache 80% full, 2 pods answer"],
        {"replicas": 3},
    ),
    "more than autoscaling allows": (
        at_its_maximum(4),
        "QueueGrows",
        ["the autoscaler has 4 pods, and may have 4"],
        {"autoscaling": {"maxReplicas": 6}},
    ),
    "an autoscaler on its way": (at_its_maximum(2), "QueueGrows", ["has 2 pods, and may have 4"], None),
    "preemptions on a GPU": (
        loaded(healthy(**GPU), {metrics.PREEMPTIONS: {"swap": 5}, USAGE: 0.99}),
        "Preemptions",
        ["1.00 preemptions a second", "room for 3,200 tokens"],
        {"engine": {"gpuMemoryUtilization": 0.95}},
    ),
    "preemptions where the GPU has no more to give": (
        loaded(healthy(engine={"preset": "throughput"}, **GPU), {metrics.PREEMPTIONS: {"swap": 5}, USAGE: 0.99}),
        "Preemptions",
        ["maxNumSeqs 256"],
        {"engine": {"maxNumSeqs": 128}},
    ),
    "a full cache on a CPU": (
        loaded(healthy(engine={"kvCacheMemory": "512Mi"}, resources={"memory": "2Gi"}), {USAGE: 0.97}),
        "KvCacheFull",
        ["room for 3,200 tokens"],
        {"engine": {"kvCacheMemory": "1Gi"}, "resources": {"memory": "2560Mi"}},
    ),
    "long prompts": (
        loaded(
            healthy(),
            {
                metrics.TIME_TO_FIRST_TOKEN: {"5.0": 0, "10.0": 10, "+Inf": 10},
                metrics.REQUEST_PROMPT_TOKENS: {"1000": 0, "2000": 10, "+Inf": 10},
            },
        ),
        "SlowFirstToken",
        ["half up to 1500 tokens", "maxNumBatchedTokens 512"],
        {"engine": {"maxNumBatchedTokens": 1024}},
    ),
    "steps that long prompts hold up": (
        loaded(healthy(), {metrics.INTER_TOKEN_LATENCY: {"0.02": 90, "0.5": 90, "1.0": 100, "+Inf": 100}}),
        "StepsHeldUp",
        ["maxNumBatchedTokens 512"],
        {"engine": {"maxNumBatchedTokens": 256}},
    ),
    "a few answers that take long": (
        loaded(healthy(), {metrics.REQUEST_DURATION: {"0.5": 90, "30.0": 90, "60.0": 100, "+Inf": 100}}),
        "Stragglers",
        ["in the queue - at most"],
        None,
    ),
    "a bound on sequences": (
        loaded(healthy(engine={"maxNumSeqs": 16}), {WAITING: 9, RUNNING: 16, USAGE: 0.2} | IN_QUEUE),
        "FewSequences",
        ["32 run and 18 wait on 2 pods; maxNumSeqs 16"],
        {"engine": {"maxNumSeqs": 32}},
    ),
    "a host that does not keep up": (
        loaded(
            healthy(resources={"cpu": "1500m"}, **GPU),
            {WAITING: 9, RUNNING: 8, USAGE: 0.6, UTILISED: {"0": 0.5}} | IN_QUEUE,
        ),
        "GpuStarved",
        ["resources.cpu 1500m"],
        {"resources": {"cpu": "3000m"}},
    ),
    "clients that ask for little": (
        loaded(healthy(**GPU), {RUNNING: 1, UTILISED: {"0": 0.3}}),
        "ClientsAskForLittle",
        ["2 requests run on 2 pods"],
        None,
    ),
    "no prefix cache": (
        loaded(healthy(engine={"enablePrefixCaching": False}), {metrics.PROMPT_TOKENS: 100}),
        "PrefixCacheOff",
        ["20 prompt tokens a second"],
        {"engine": {"enablePrefixCaching": True}},
    ),
    "a prefix cache that forgets": (
        loaded(healthy(**GPU), {QUERIES: 2000, HITS: 800, USAGE: 0.92}, {QUERIES: 1000, HITS: 790}),
        "PrefixCacheTooSmall",
        ["KV cache 92% full"],
        {"engine": {"gpuMemoryUtilization": 0.95}},
    ),
    "a log for debugging": (loaded(healthy(**CHATTY), refused()), "DebugLog", ["--log-level debug"], None),
    "an autoscaler that sees nothing": (
        autoscaled("NoMetric"),
        "AutoscalerBlind",
        ["ScalingActive NoMetric: no octavo_requests_waiting"],
        None,
    ),
}
