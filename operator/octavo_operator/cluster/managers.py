"""The field managers: who wrote a field, as an object's metadata.managedFields names the operator's own."""

FIELD_MANAGER = "octavo"
# Takes away what others wrote into owned objects. Not FIELD_MANAGER: what it writes there for a moment is to be told
# from what is wanted, and goes as all else that is another's.
REPAIR_MANAGER = "octavo-repair"
# Holds spec.replicas of an autoscaled Deployment between the operator, which lets go of it, and the autoscaler.
REPLICAS_MANAGER = "octavo-autoscaling"
