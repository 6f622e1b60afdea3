"""status: what the operator observed."""

from typing import Literal

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class Condition(BaseModel):
    model_config = STRICT

    type: str = Field(
        max_length=316,
        description="Valid, Fits, Available, Progressing, Ready, ScalingActive, Routed, NoSpareGPU or Stalled.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, description="Why, in one CamelCase word.")
    message: str = Field(max_length=32768, description="Why, in words, and what to do about it.")
    last_transition_time: str = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="The metadata.generation that this condition speaks of.")


class DownloadStatus(BaseModel):
    """As the Job that downloads says it."""

    model_config = STRICT

    bytes: int = Field(description="Bytes that are there.")
    total: int = Field(description="Bytes of all that is downloaded.")
    bytes_per_second: int | None = Field(None, description="How fast it has gone of late.")
    seconds_left: int | None = Field(None, description="How long it will take at that pace.")


class ModelStatus(BaseModel):
    """Of what is not in a cache, one of description and problem is there; of what is, revision, folder, size and claim,
    and download until then."""

    model_config = STRICT

    source: str = Field(max_length=64, description="Digest of what the model was read from: its URI, mounts and env.")
    description: str | None = Field(
        None, max_length=4096, description="What octavo describe says of the model; it is not read again."
    )
    problem: str | None = Field(None, max_length=1024, description="Why the model could not be read, in words.")
    revision: str | None = Field(
        None,
        max_length=256,
        description="What the source's revision was when it was downloaded to the cache, such as the hub's commit; "
        "pods load it until spec.model changes.",
    )
    folder: str | None = Field(None, max_length=512, description="Where in the cache that is.")
    size: int | None = Field(None, description="Bytes of it.")
    claim: str | None = Field(None, max_length=64, description="uid of the claim that it is on.")
    download: DownloadStatus | None = Field(None, description="How far the download to the cache is.")


class MemoryStatus(BaseModel):
    """All but the measured is as planned, and absent where nothing could be planned."""

    model_config = STRICT

    device: int | None = Field(None, description="Bytes of the GPU, or on a CPU of the container's limit.")
    budget: int | None = Field(None, description="Bytes of these that the engine uses.")
    weights: int | None = Field(None, description="Bytes of the weights.")
    reserves: int | None = Field(
        None, description="Bytes of processes, contexts, a step's temporary tensors and CUDA graphs."
    )
    kv_cache: int | None = Field(
        None, description="Bytes that are left for the KV cache; negative where the rest is too much."
    )
    kv_bytes_per_token: int | None = Field(None, description="Bytes of one token in the KV cache, in all layers.")
    kv_tokens: int | None = Field(None, description="Tokens that the KV cache will hold in all layers.")
    measured_kv_tokens: int | None = Field(None, description="Tokens that it does hold, as a ready pod said.")
    max_model_len: int | None = Field(None, description="Tokens of the longest request; 0 where it does not fit.")


class ChosenStatus(BaseModel):
    """Of what the spec leaves open, what the operator set since the model would not fit otherwise. It stays until the
    spec changes, as long as the model fits with it."""

    model_config = STRICT

    tensor_parallel_size: int | None = Field(None, description="GPUs of a replica, as by spec.accelerator.count.")
    gpu_memory_utilization: float | None = Field(None, description="As spec.engine.gpuMemoryUtilization.")
    max_num_batched_tokens: int | None = Field(None, description="As spec.engine.maxNumBatchedTokens.")
    quantization: str | None = Field(None, max_length=16, description="As spec.engine.quantization.")


class LLMServiceStatus(BaseModel):
    model_config = STRICT

    observed_generation: int = Field(
        -1,
        description="The metadata.generation that this status speaks of; -1 until it was looked at.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Valid, Fits, Available, Progressing and Ready; ScalingActive with spec.autoscaling; Routed "
        "with endpoint.ingress or endpoint.gateway; NoSpareGPU "
        "on GPUs with rollout.strategy auto; Stalled where only a person can go on.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(
        None,
        description="Base URL for OpenAI clients: by endpoint.gateway, else by endpoint.ingress, else inside the "
        "cluster.",
    )
    cluster_url: str | None = Field(None, description="Base URL for OpenAI clients inside the cluster.")
    replicas: int = Field(
        0, description="Pods that exist, those of a rollout's former spec among them; an autoscaler reads it."
    )
    ready_replicas: int = Field(0, description="Pods that answer requests.")
    readiness: str | None = Field(None, description="Pods that answer, of those wanted, such as 1/2.")
    model: ModelStatus | None = Field(None, description="What was read of the model, before its pods start.")
    memory: MemoryStatus | None = Field(None, description="Where a device's memory goes, as planned before pods start.")
    chosen: ChosenStatus | None = Field(
        None, description="What was set of what the spec leaves open, since the model would not fit otherwise."
    )
    selector: str | None = Field(None, description="Label selector of the pods.")
