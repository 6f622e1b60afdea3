"""What the operator asks of the API server. The only room that imports the Kubernetes client."""

from octavo_operator.cluster.connection import (
    FIELD_MANAGER,
    NODES_HOLD,
    REPAIR_MANAGER,
    REPLICAS_MANAGER,
    Applied,
    Connection,
    Event,
    Forbidden,
    Refused,
    Reply,
    Stale,
    Trouble,
    connect,
    connect_as_user,
)

__all__ = [
    "FIELD_MANAGER",
    "NODES_HOLD",
    "REPAIR_MANAGER",
    "REPLICAS_MANAGER",
    "Applied",
    "Connection",
    "Event",
    "Forbidden",
    "Refused",
    "Reply",
    "Stale",
    "Trouble",
    "connect",
    "connect_as_user",
]
