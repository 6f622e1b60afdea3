"""What the operator asks of the API server. The only room that imports the Kubernetes client."""

from octavo_operator.cluster.access import connect, connect_as_user
from octavo_operator.cluster.connection import NODES_HOLD, Applied, Connection, Event, Reply
from octavo_operator.cluster.managers import FIELD_MANAGER, REPAIR_MANAGER, REPLICAS_MANAGER
from octavo_operator.cluster.refusals import Forbidden, Refused, Stale, Trouble

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
